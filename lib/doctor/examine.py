"""Every product that was found, against every bug: the checks, and one sentence of what to do."""

from . import BUGS, NOT_AFFECTED, VERDICTS, Answer, Check, releases
from .rules import RULES, Judge
from .text import Tree

SM12X, INTEGRATED = (120, 121), (87, 110, 121)  # the latter share the host's memory
ABOUT = {1: (SM12X, "kernels for SM120 and SM121"), 3: (SM12X, "SM120 and SM121"),
         2: (INTEGRATED, "GPUs that share the host's memory"), 5: (SM12X, "SM120 and SM121")}


def todo(product, bug, verdict):
    """One sentence of what to do about a verdict (str)."""
    told = releases.FACTS.get(product, {}).get(f"{bug} {verdict}") or releases.FACTS["any"][verdict]
    return told.replace("{since}", releases.FACTS["release"].get(str(bug), {}).get("since", ""))


def checks(place, tree, bug, sm):
    """What the rules say of one product and one bug (tuple of Check)."""
    architectures, about = ABOUT.get(bug, ((sm,), ""))
    if sm not in architectures:
        note = f"this is about {about}, and the GPU is SM{sm}"
        return (Check("", NOT_AFFECTED, note=note),)
    if place.product == "FlashInfer" and bug == 2:
        note = "FlashInfer keeps no second pool: the KV cache is its caller's"
        return (Check("", NOT_AFFECTED, note=note),)
    tuner = "tensorrt_llm/_torch//autotuner.py"
    package = place.product == "TensorRT-LLM" and not (tree.root / "cpp").is_dir()
    if package and (bug == 1 or bug == 4 and not tree.source(tuner)):
        return (releases.check(place.version, bug),)
    judged = (Judge(rule, tree, place, sm).check() for rule in RULES
              if rule["bug"] == bug and place.product in rule["products"])
    return tuple(filter(None, judged))


def examine(places, sm):
    """Judge what was found (`places.Place`) for an architecture, such as 121 (list of `Answer`)."""
    answers = []
    for place in places:
        tree = Tree(place.root)
        for bug in (1,) if place.product == "CUTLASS" else BUGS:
            said = checks(place, tree, bug, sm)
            worst = min((check.verdict for check in said), key=VERDICTS.index)
            merged = place.product == "TensorRT-LLM" and releases.beside(place.version, bug)
            answers.append(Answer(bug, place.product, place.version, str(place.root), worst, said,
                                  todo(place.product, bug, worst), merged or ""))
    return sorted(answers, key=lambda answer: answer.bug)
