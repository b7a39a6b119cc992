"""What is known of a machine instruction or function of C's: everything, once, for all that write code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Instruction:
    test: str = ""


INSTRUCTIONS = {"fcmp olt": Instruction("{} < {}"), "fcmp ole": Instruction("{} <= {}")}
