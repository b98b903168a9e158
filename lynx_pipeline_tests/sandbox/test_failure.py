"""What the error of a failed candidate says, whatever the candidate printed."""

import pickle

import pytest

from lynx_pipeline.sandbox.failure import failed

BUNDLE = "/opt/ml/model"
LIBRARY = '  File "/usr/lib/python3/mlflow/pyfunc.py", line 700, in predict\n    return f(x)\n'
OURS = f'  File "{BUNDLE}/code/tutor.py", line 12, in answer\n    return words[prompt]\n'
SCRIPT = '  File "/home/me/train.py", line 7, in predict\n    return words[prompt]\n'
START = "Traceback (most recent call last):\n"


def message(stderr: str, error: str = "") -> str:
    """The message for a batch during which the process ended, without what all have in common."""
    text = str(failed("it ended during loading", error, stderr.encode(), BUNDLE))
    start = "the candidate could not be evaluated: it ended during loading"
    assert text.startswith(start)
    assert text.isprintable()
    return text.removeprefix(start)


@pytest.mark.parametrize(
    ("stderr", "expected"),
    [
        pytest.param("", ".", id="nothing"),
        pytest.param(
            START + LIBRARY + OURS + LIBRARY + "KeyError: 'go'\n",
            ": KeyError: 'go'. It was raised at code/tutor.py, line 12, in answer.",
            id="innermost own line",
        ),
        pytest.param(
            f"{START}{OURS}KeyError: 'go'\n\nDuring handling of the above exception, another "
            f"exception occurred:\n\n{START}{LIBRARY}RuntimeError: no\n",
            ": RuntimeError: no.",
            id="the last of several, in no own file",
        ),
        pytest.param(
            f"{START}{LIBRARY}{SCRIPT}{LIBRARY}KeyError: 'go'\n",
            ": KeyError: 'go'. It was raised at /home/me/train.py, line 7, in predict.",
            id="pickled code, in the script that logged it",
        ),
        pytest.param(
            f"{START}{OURS}{SCRIPT}KeyError: 'go'\n",
            ": KeyError: 'go'. It was raised at code/tutor.py, line 12, in answer.",
            id="the bundle's files come first",
        ),
        pytest.param(
            START + OURS + "pkg.Invalid: 2 errors\n  a: missing\n  b: missing\n",
            ": pkg.Invalid: 2 errors. It was raised at code/tutor.py, line 12, in answer.",
            id="several lines",
        ),
        pytest.param(
            f'{START}{LIBRARY}  File "{BUNDLE}/code/x.py", line 3\n    =\n    ^\nSyntaxError: no\n',
            ": SyntaxError: no. It was raised at code/x.py, line 3.",
            id="syntax error",
        ),
        pytest.param(
            START + LIBRARY.replace("/usr", f"{BUNDLE}-other") + "OSError: no\nGoodbye\n",
            ": OSError: no.",
            id="a folder with a longer name",
        ),
        pytest.param(
            f"50%|####  {START}{OURS}KeyError: 'go'\nThe end of a buffer\n",
            ": KeyError: 'go'. It was raised at code/tutor.py, line 12, in answer.",
            id="between other output",
        ),
        pytest.param(
            "loading ...\nkilled by the model\n \n",
            ". The last line that it printed: killed by the model.",
            id="no traceback",
        ),
        pytest.param(
            "\x1b[31mred\x1b[0m \x07",
            ". The last line that it printed: ?[31mred?[0m ?",
            id="escapes",
        ),
    ],
)
def test_the_exception_and_its_place_are_shown(stderr: str, expected: str) -> None:
    """Only the line that somebody has to read first."""
    assert message(stderr) == expected


def test_the_reported_exception_counts_more_than_the_printed_one() -> None:
    """A model may catch and print exceptions before it fails."""
    stderr = f"{START}{OURS}KeyError: 'go'\n"
    assert message(stderr, "ValueError: a\n  b").startswith(
        " with ValueError: a b. It was raised at code/tutor.py"
    )


def test_long_text_is_cut_between_words() -> None:
    """And a word without end somewhere."""
    text = message(f"{START}{OURS}ValueError: {'word ' * 1000}\n")
    assert "word …. It was raised at code/tutor.py" in text
    assert len(text) < 1200
    assert len(message(f"{START}{OURS}ValueError:{'x' * 9999}\n")) < 1200
    name = "f" * 9999
    assert len(message(f"{START}{OURS.replace('answer', name)}KeyError: 1\n")) < 2300


def test_everything_printed_is_kept_readable() -> None:
    """Also on its way from a node of a Ray cluster."""
    error = failed("it ended", "", b"a\n\tb\x1b[2J\xff\n", BUNDLE)
    copy = pickle.loads(pickle.dumps(error))
    assert copy.printed == error.printed == "a\n\tb?[2J\N{REPLACEMENT CHARACTER}"
    assert str(copy) == str(error)


def test_the_text_of_an_exit_is_shown_once() -> None:
    """``sys.exit(text)`` also prints it."""
    shown = str(failed("it failed", "SystemExit: no weights", b"no weights\n"))
    assert shown.count("no weights") == 1
