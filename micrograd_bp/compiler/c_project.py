"""A program as the files of a C project: the code, a header for C and C++, and a `main` that tests the code."""

from __future__ import annotations

import math
from collections.abc import Sequence

from micrograd_bp.compiler.c99 import Graph, source

TOLERANCE = {"double": "1e-9", "float": "1e-3"}  # of the test, relative to max(|output|, 1)


def files(
    graph: Graph,
    name: str,
    real: str,
    classes: list[str],
    tests: Sequence[tuple[Sequence[float], Sequence[float]]],
    fixed: bool,
) -> dict[str, str]:
    """The header and the C file by name; see `Kernel.c_files`."""
    outputs = len(graph.value.outputs)
    if classes and len(classes) not in (outputs, outputs + graph.single):
        raise ValueError(f"{len(classes)} classes for {outputs} outputs")
    code, workspace = source(graph, name, real, include=f"{name}.h", fixed=fixed)
    parts = [code]
    if classes:
        lines = ",\n".join(f"    {literal(label)}" for label in classes)
        parts.append(f"const char *const {name}_classes[{len(classes)}] = {{\n{lines}\n}};\n")
    if tests:
        parts.append(_main(graph, name, real, tests))
    return {f"{name}.h": _header(graph, name, real, classes, workspace), f"{name}.c": "\n".join(parts)}


def literal(text: str) -> str:
    """A text as a string of C, in ASCII: other bytes, quotes and question marks by their numbers."""
    plain = (chr(x) if 32 <= x < 127 and x not in b'"\\?' else f"\\{x:03o}" for x in text.encode())
    return f'"{"".join(plain)}"'


def _header(graph: Graph, name: str, real: str, classes: list[str], workspace: int) -> str:
    """Sizes, parameters, classes and functions."""
    sizes = {"INPUTS": len(graph.value.inputs), "OUTPUTS": len(graph.value.outputs), "PARAMETERS": len(graph.leaves)}
    sizes |= {"CLASSES": len(classes)} if classes else {}
    macro = name.upper()
    lines = [f"#define {macro}_{size} {count}" for size, count in sizes.items()]
    lines.append(f"#define {macro}_WORKSPACE {workspace} /* numbers of type {real} */")
    declared = []
    if graph.leaves:
        declared.append(f"extern const {real} {name}_parameters[{macro}_PARAMETERS];")
    if classes:
        declared.append(f"extern const char *const {name}_classes[{macro}_CLASSES];")
    kind, out = (real, "") if graph.single else ("void", f", {real} *out")
    declared.append(f"{kind} {name}_value(const {real} *x, const {real} *w{out});")
    if graph.parameters and graph.single:
        declared.append(f"{real} {name}_value_and_grad(const {real} *x, const {real} *w, {real} *gradient);")
    elif graph.parameters:
        arguments = f"const {real} *x, const {real} *w, const {real} *cotangent, {real} *out, {real} *gradient"
        declared.append(f"void {name}_value_and_vjp({arguments});")
    body = "\n".join([*lines, "", "#ifdef __cplusplus", 'extern "C" {', "#endif", "", *declared, ""])
    end = "#ifdef __cplusplus\n}\n#endif\n"
    head = f"/* {name}.c says what stands in x, w and the rest. */\n#ifndef {macro}_H\n#define {macro}_H\n"
    return f"{head}\n{body}\n{end}\n#endif\n"


def _main(graph: Graph, name: str, real: str, tests: Sequence[tuple[Sequence[float], Sequence[float]]]) -> str:
    """A program that compares the outputs for some rows with those in double precision."""
    macro = name.upper()
    rows = ",\n".join(f"        {{{', '.join(map(_number, row))}}}" for row, _ in tests)
    expected = ",\n".join(f"        {{{', '.join(map(_number, outputs))}}}" for _, outputs in tests)
    weights = f"{name}_parameters" if graph.leaves else "0"
    call = f"out[0] = {name}_value(x, {weights})" if graph.single else f"{name}_value(x, {weights}, out)"
    return f"""#ifdef {macro}_MAIN
#include <stdio.h>

/* Some rows of inputs, and the outputs in double precision. */
int main(void)
{{
    static const double rows[{len(tests)}][{macro}_INPUTS] = {{
{rows}
    }};
    static const double expected[{len(tests)}][{macro}_OUTPUTS] = {{
{expected}
    }};
    double worst = 0.0;
    for (int i = 0; i < {len(tests)}; i++) {{
        {real} x[{macro}_INPUTS], out[{macro}_OUTPUTS];
        for (int k = 0; k < {macro}_INPUTS; k++)
            x[k] = ({real})rows[i][k];
        {call};
        for (int k = 0; k < {macro}_OUTPUTS; k++) {{
            const double right = expected[i][k], error = fabs((double)out[k] - right) / fmax(fabs(right), 1.0);
            if (!(error <= worst))
                worst = error;
            if (error != error) {{
                printf("row %d: output %d is not a number\\n", i, k);
                return 1;
            }}
        }}
    }}
    printf("{len(tests)} rows: the largest difference from double precision is %.2g of max(|output|, 1)\\n", worst);
    return worst <= {TOLERANCE[real]} ? 0 : 1;
}}
#endif
"""


def _number(x: float) -> str:
    if not math.isfinite(x):
        raise ValueError(f"a test takes rows and outputs that are finite, not {x}")
    return repr(float(x))
