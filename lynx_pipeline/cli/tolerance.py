"""The ``--tolerance`` option's type."""

from fractions import Fraction

import click

from lynx_pipeline.domain.gate.baseline import read_tolerance
from lynx_pipeline.domain.strict_json import Fields, exact
from lynx_pipeline.errors import BadInput


class Tolerance(click.ParamType[Fraction]):
    """A tolerance, read as strictly as in a baseline file: a fraction, 0.02 for two points."""

    name = "fraction"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Fraction:
        """The exact fraction.

        Raises:
            BadInput: it is not a fraction below 1.
        """
        if isinstance(value, Fraction):
            return value
        try:
            number = exact(str(value))
            return read_tolerance(
                Fields({"--tolerance": number}, "the command line"), "--tolerance"
            )
        except (ValueError, ArithmeticError):  # not a number, or not finite
            raise BadInput(f"--tolerance {value!r}: expected a number such as 0.02.") from None
