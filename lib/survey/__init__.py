"""What published wheels hold for SM120 and SM121: read, kept, judged, drawn."""
