"""The one error of the collection: what went wrong, and what to do next."""


class CollectionError(Exception):
    """Something that the reader can act on: `what` went wrong, with the name of the file, package
    or value, and the `next_step`, what the reader should do now (two str)."""

    def __init__(self, what, next_step):
        super().__init__(what, next_step)
        self.what, self.next_step = what, next_step

    def __str__(self):
        return f"{self.what}\n  next: {self.next_step}"

    def _render_traceback_(self):
        """What IPython shows in a traceback's place (list of str); ``%debug`` has the frames."""
        return [str(self)]
