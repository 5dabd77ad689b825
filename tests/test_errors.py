"""What an error says to do next: `hint`, read from the messages that the package raises."""

import ast
from pathlib import Path

import pytest

import twin_dcal
from twin_dcal import errors
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.errors import ConfigError, TwinDcalError

SOURCE = Path(twin_dcal.__file__).parent
TELLING = (
    " 1024 a all at did explanations first floating given it its keys needed not on one or presets "
    "print(secrets.token_urlsafe())' reading real the they this twins two what ray with images model is "
)
"""Words that begin the last clause of messages, and are no advice."""


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        ("faces: no such folder. Name a folder of images.", "Name a folder of images."),
        ("--workers 0 draw nothing; use 1 or more", "use 1 or more"),
        (
            "pair 3 is an image with itself. Leave it out; it always matches.",
            "Leave it out; it always matches.",
        ),
        ("model.json: no such file", None),
        ("data.images: used twice; useless", None),
        ("use one of --a and --b", None),
        ("a\nb; delete it", "delete it"),
    ],
)
def test_the_hint_is_what_to_do_next(message, hint):
    error = TwinDcalError(message)
    assert error.hint == hint
    assert str(error).endswith(hint or "")
    assert error.args == (message,)


def test_errors_of_the_package_have_it():
    with pytest.raises(ConfigError) as raised:
        TwinVerificationConfig.from_dict({"BATCH_SIZE": 4})
    assert raised.value.hint == "write them as BATCH_SIZE -> training.batch_size"


def last_clauses():
    """(place, first word of the last clause, hint) of each message that is written where it is raised."""
    kinds = {
        name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)
    }
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args):
                continue
            if getattr(node.exc.func, "id", None) in kinds:
                message = written(node.exc.args[0])
                clause = (
                    message.replace(". ", "; ").rpartition("; ")[2]
                    if "; " in message or ". " in message
                    else ""
                )
                yield f"{path.name}:{node.lineno}", clause, TwinDcalError(message).hint


def written(value):
    """A message with 0 for what is put into it."""
    if isinstance(value, ast.Constant):
        return str(value.value)
    if isinstance(value, ast.JoinedStr):
        return "".join(map(written, value.values))
    return written(value.left) + written(value.right) if isinstance(value, ast.BinOp) else "0"


def test_advice_begins_with_a_verb_that_is_known():
    clauses = list(last_clauses())
    assert len(clauses) > 500
    unknown = {
        place: clause
        for place, clause, hint in clauses
        if clause[:1].isalpha()
        and hint is None
        and f" {clause.split()[0].lower().rstrip(',:.')} " not in TELLING
    }
    assert unknown == {}, "add the verb to errors._VERBS, or the word to TELLING"
