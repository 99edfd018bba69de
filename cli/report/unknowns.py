"""What is not known of a result, and why: a part that is missing is never left out in silence."""

from collections.abc import Iterator, Mapping

from cli.report.blocks import Text
from models.experiments import Result

PART_WORDS = {
    "effect": "the effect",
    "unadjusted": "the unadjusted effect",
    "per_protocol": "the effect per protocol",
    "variance_saved": "the variance saved",
    "contrasts": "the contrasts with the control",
    "tests": "the classical tests",
    "sample_ratio": "the sample ratio",
    "attrition_p": "attrition",
    "power": "power",
    "detectable_effect": "the detectable effect",
    "law": "the averaged law",
    "reference.power": "the power fit",
    "reference.log": "the logarithmic fit",
    "reference.linear": "the linear fit",
    "reference.knee": "the knee by the document's rule",
    "reference.diminishing_returns": "diminishing returns",
    "reference.recommended_value": "the recommended value",
    "published": "the averaged law",
    "knee": "the knee",
}


def not_known(result: Result, part: str) -> Text:
    """Say that a part is not known, and why."""
    return Text(f"{capital(part_words(part))} is not known: {why(result.missing, part)}", note=True)


def unknown_parts(result: Result) -> Iterator[str]:
    """List everything that is not known, with its reason."""
    for part, reason in result.missing.items():
        yield f"{capital(part_words(part))}: {stopped(reason)}"
    for part, reason in result.law.missing.items() if result.law is not None else ():
        yield f"Law, {part_words(part)}: {stopped(reason)}"


def part_words(part: str) -> str:
    """Name a part of a result or of its law."""
    return PART_WORDS.get(part, part)


def why(missing: Mapping[str, str], part: str) -> str:
    """Give the reason why a part is missing."""
    return stopped(missing.get(part, "the record gives no reason"))


def stopped(reason: str) -> str:
    """End a reason with a full stop."""
    return reason if reason[-1:] in {".", "!", "?"} else f"{reason}."


def capital(text: str) -> str:
    """Begin a text with a capital letter."""
    return f"{text[:1].upper()}{text[1:]}"
