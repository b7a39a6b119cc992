"use strict";
const RUN = `
import ast, contextlib, io, time, traceback
import micrograd_bp as mg

def run(text):
    printed, result, start = io.StringIO(), None, time.perf_counter()
    out = {"printed": "", "error": "", "page": "", "table": "", "seconds": 0.0}
    try:
        tree = ast.parse(text, "<program>")
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        names = {"__name__": "__main__"}
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            exec(compile(tree, "<program>", "exec"), names)
            if last is not None:
                result = eval(compile(ast.Expression(last.value), "<program>", "eval"), names)
        if isinstance(result, mg.Value):
            out["page"] = mg.explore(result, path=None, title="Your program, step by step").html
            out["table"] = mg.trace_table(result).html()
        elif hasattr(result, "_repr_svg_"):
            out["table"] = result._repr_svg_()
        elif result is not None:
            printed.write(f"{result!r}\\n")
    except BaseException as error:
        stack = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in stack if frame.filename == "<program>"]
        at = f"line {own[-1].lineno}: " if own else f"line {error.lineno}: " if isinstance(error, SyntaxError) else ""
        out["error"] = at + "".join(traceback.format_exception_only(error))
    out["printed"], out["seconds"] = printed.getvalue(), time.perf_counter() - start
    return out
`;

async function load() {
  const {pyodide: address, wheel} = await (await fetch("playground.json")).json();
  const {loadPyodide} = await import(new URL("pyodide.mjs", new URL(address, self.location)));
  const python = await loadPyodide({indexURL: new URL(address, self.location).href});
  python.unpackArchive(await (await fetch(wheel)).arrayBuffer(), "wheel");
  python.runPython(RUN);
  self.postMessage({ready: true});
  return python.globals.get("run");
}

const loaded = load();
loaded.catch(() => {});  // told to whoever runs a program
self.onmessage = async ({data}) => {
  try {
    const run = await loaded, result = run(data);
    self.postMessage(result.toJs({dict_converter: Object.fromEntries}));
    result.destroy();
  } catch (error) {
    self.postMessage({printed: "", error: `Python could not be started: ${error}`, page: "", table: "", seconds: 0});
  }
};
