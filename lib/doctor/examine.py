"""Every product that was found, against every bug: the checks, and one sentence of what to do."""

from . import BUGS, NOT_AFFECTED, VERDICTS, Answer, Check, releases
from .rules import ABOUT, RULES, Judge
from .text import Tree


def todo(product, bug, verdict, read=True):
    """One sentence of what to do about a verdict (str), which a file that was read gave or not."""
    own = releases.FACTS.get(product, {}).get(f"{bug} {verdict}")
    told = own if own and read else releases.FACTS["any"][verdict]
    return told.replace("{since}", releases.FACTS["release"].get(str(bug), {}).get("since", ""))


def checks(product, version, tree, bug, sm):
    """What the rules say of one product and one bug (list of Check)."""
    about = ABOUT.get(str(bug))
    if about and sm not in about["architectures"]:
        note = f"this is about {about['what']}, and the GPU is SM{sm}"
        return [Check("", NOT_AFFECTED, note=note)]
    judged = (Judge(rule, product, version, tree, sm).check() for rule in RULES
              if rule["bug"] == bug and product in rule["products"])
    return [*filter(None, judged)]


def examine(places, sm):
    """Judge what was found (`places.Place`) for an architecture, such as 121 (list of `Answer`)."""
    answers = []
    for product, version, root, _ in places:
        tree = Tree(root)
        for bug in (1,) if product == "CUTLASS" else BUGS:
            said = checks(product, version, tree, bug, sm)
            worst = min((check.verdict for check in said), key=VERDICTS.index)
            # Not for this GPU, or not in this release: then there is nothing to do about it.
            read = worst != NOT_AFFECTED or any(check.file for check in said)
            merged = (releases.beside(version, bug) if product == "TensorRT-LLM" else
                      releases.mended(version, bug, said) if product == "FlashInfer" else "")
            answers.append(Answer(bug, product, version, str(root), worst, said,
                                  todo(product, bug, worst, read), merged))
    return sorted(answers, key=lambda answer: answer.bug)
