"""Matrix products as LLVM IR: blocks of the result stay in registers; the left factor may have any strides.

C[m, n] = A[m, 0] B[0, n] + A[m, 1] B[1, n] + ... with n in vector lanes; products of a matrix with one vector, with
the terms in lanes; and transposition. Every number that is stored is also multiplied by 0 and added to `bad`, which is
nan from then on if one is not finite. Factors are not copied into packed blocks: what is read again is in the cache.
"""

from __future__ import annotations

import functools

from micrograd_bp.compiler.machine import Code, Host, loop

BLOCK = 256  # terms that are added at a time, so that the rows of A and B they are in stay in the L1 cache
COLUMNS = 3  # vectors of a block of C; with its rows, a block fills 12 of 16 registers, or 24 of 32
MASKED = ", i64 %rest"


class MatrixText:
    """Writes the functions, for vectors of as many lanes as the machine's."""

    def __init__(self, machine: Host) -> None:
        self.lanes, self.fused = machine.lanes, machine.fma
        many = machine.lanes == 8 or machine.mangling == "n"  # 32 registers, not 16
        self.rows = (8, 2, 1) if many else (4, 1)  # heights of the blocks of C, the largest first
        lanes = self.lanes
        self.vector, self.bits = f"<{lanes} x double>", f"<{lanes} x i1>"
        self.zeros = f"<{lanes} x i32> zeroinitializer"

    def splat(self, name: str, scalar: str) -> str:
        v = self.vector
        first = f"%{name}.1 = insertelement {v} undef, double {scalar}, i64 0\n"
        return f"{first}%{name} = shufflevector {v} %{name}.1, {v} undef, {self.zeros}\n"

    def load(self, name: str, pointer: str, masked: bool) -> str:
        if not masked:
            return f"%{name} = load {self.vector}, ptr {pointer}, align 8\n"
        function = f"@llvm.masked.load.v{self.lanes}f64.p0(ptr {pointer}, i32 8, {self.bits} %mask, "
        return f"%{name} = call {self.vector} {function}{self.vector} zeroinitializer)\n"

    def store(self, value: str, pointer: str, masked: bool) -> str:
        if not masked:
            return f"store {self.vector} {value}, ptr {pointer}, align 8\n"
        function = f"@llvm.masked.store.v{self.lanes}f64.p0({self.vector} {value}, ptr {pointer}, i32 8, "
        return f"call void {function}{self.bits} %mask)\n"

    def fma(self, name: str, a: str, b: str, c: str) -> str:
        v = self.vector
        if not self.fused:
            return f"%{name}.m = fmul {v} {a}, {b}\n%{name} = fadd {v} %{name}.m, {c}\n"
        return f"%{name} = call {v} @llvm.fma.v{self.lanes}f64({v} {a}, {v} {b}, {v} {c})\n"

    def mask(self, count: str) -> str:
        """Code that sets %mask to the lanes below a count."""
        n = self.lanes
        numbers = ", ".join(f"i64 {k}" for k in range(n))
        return f"""%mask.1 = insertelement <{n} x i64> undef, i64 {count}, i64 0
%mask.n = shufflevector <{n} x i64> %mask.1, <{n} x i64> undef, {self.zeros}
%mask = icmp ult <{n} x i64> <{numbers}>, %mask.n
"""

    def declarations(self) -> str:
        n, v = self.lanes, self.vector
        return f"""declare {v} @llvm.fma.v{n}f64({v}, {v}, {v})
declare {v} @llvm.masked.load.v{n}f64.p0(ptr, i32, {self.bits}, {v})
declare void @llvm.masked.store.v{n}f64.p0({v}, ptr, i32, {self.bits})
declare double @llvm.vector.reduce.fadd.v{n}f64(double, {v})
"""

    def watched(self, name: str, values: list[str], pointer: str, masked: bool) -> str:
        """Code that adds values times 0 to the vector at a pointer, which becomes nan if one is not finite."""
        text, before = self.load(f"{name}.old", pointer, masked), f"%{name}.old"
        for k, value in enumerate(values):
            text += self.fma(f"{name}.{k}", value, "zeroinitializer", before)
            before = f"%{name}.{k}"
        return text + self.store(before, pointer, masked)

    # --- C = A B ----------------------------------------------------------------------------------------------------

    def tile(self, rows: int, columns: int, masked: bool) -> str:
        """The function that computes %mt times %nt blocks of C, each of so many rows and vectors."""
        v = self.vector
        pairs = [(i, j) for i in range(rows) for j in range(columns)]
        body = f"%first = mul i64 %n, {columns * self.lanes}\n"
        body += "%c0 = getelementptr double, ptr %cm, i64 %first\n%b0 = getelementptr double, ptr %b, i64 %first\n"
        body += "%bad.at = mul i64 %first, %sbad\n%bad0 = getelementptr double, ptr %bad, i64 %bad.at\n"
        body += "".join(f"%c{i} = getelementptr double, ptr %c{i - 1}, i64 %sc\n" for i in range(1, rows))
        body += "br label %t.start\nt.start:\nbr label %t.loop\nt.loop:\n"
        body += "%t = phi i64 [0, %t.start], [%t.next, %t.loop]\n%ka0 = phi ptr [%am, %t.start], [%ka.next, %t.loop]\n"
        body += "%kb = phi ptr [%b0, %t.start], [%kb.next, %t.loop]\n"
        for i, j in pairs:
            body += f"%s{i}.{j} = phi {v} [zeroinitializer, %t.start], [%u{i}.{j}, %t.loop]\n"
        for j in range(columns):
            body += f"%kb{j} = getelementptr double, ptr %kb, i64 {j * self.lanes}\n"
            body += self.load(f"y{j}", f"%kb{j}", masked)
        for i in range(rows):
            if i:
                body += f"%ka{i} = getelementptr double, ptr %ka{i - 1}, i64 %sm\n"
            body += f"%x{i}.s = load double, ptr %ka{i}, align 8\n" + self.splat(f"x{i}", f"%x{i}.s")
            for j in range(columns):
                body += self.fma(f"u{i}.{j}", f"%x{i}", f"%y{j}", f"%s{i}.{j}")
        body += (
            "%ka.next = getelementptr double, ptr %ka0, i64 %sk\n%kb.next = getelementptr double, ptr %kb, i64 %sb\n"
        )
        body += "%t.next = add i64 %t, 1\n%t.again = icmp ult i64 %t.next, %k\n"
        body += "br i1 %t.again, label %t.loop, label %t.end\nt.end:\n"
        for i, j in pairs:
            body += f"%p{i}.{j} = getelementptr double, ptr %c{i}, i64 {j * self.lanes}\n"
        body += "br i1 %more, label %t.old, label %t.new\nt.old:\n"
        for i, j in pairs:
            body += self.load(f"o{i}.{j}", f"%p{i}.{j}", masked) + f"%w{i}.{j} = fadd {v} %o{i}.{j}, %u{i}.{j}\n"
        body += "br label %t.new\nt.new:\n"
        for i, j in pairs:
            body += f"%z{i}.{j} = phi {v} [%u{i}.{j}, %t.end], [%w{i}.{j}, %t.old]\n"
        for i, j in pairs:
            body += self.store(f"%z{i}.{j}", f"%p{i}.{j}", masked)
        for j in range(columns):
            body += f"%bad{j}.p = getelementptr double, ptr %bad0, i64 {j * self.lanes}\n"
            body += self.watched(f"bad{j}", [f"%z{i}.{j}" for i in range(rows)], f"%bad{j}.p", masked)
        strip = f"""%m.rows = mul i64 %m, {rows}
%m.a = mul i64 %m.rows, %sm
%am = getelementptr double, ptr %a, i64 %m.a
%m.c = mul i64 %m.rows, %sc
%cm = getelementptr double, ptr %c, i64 %m.c
{loop("n", "%nt", body)}"""
        return f"""define internal void @tile{rows}x{"m" if masked else columns}(ptr %a, i64 %sm, i64 %sk, ptr %b, \
i64 %sb, ptr %c, i64 %sc, i64 %mt, i64 %nt, i64 %k, i1 %more, ptr %bad, i64 %sbad{MASKED if masked else ""}) noinline {{
{self.mask("%rest") if masked else ""}{loop("m", "%mt", strip)}
ret void
}}
"""

    def split(self, i: int, a: str) -> str:
        """Code for the strips of rows[i] rows: how many rows of A are left for them, their number, and their start."""
        above, rows = self.rows[i - 1] if i else 0, self.rows[i]
        return f"""%left{i} = {f"urem i64 %m, {above}" if i else "add i64 %m, 0"}
%mt{i} = udiv i64 %left{i}, {rows}
%skip{i} = sub i64 %m, %left{i}
%skip.a{i} = mul i64 %skip{i}, %sm
%a{i} = getelementptr double, ptr {a}, i64 %skip.a{i}
"""

    def product(self) -> str:
        """C = A B, or C += A B where %more; %sm, %sk, %sb, %sc are strides, of A and of the rows of B and C."""
        calls = ""
        for i, rows in enumerate(self.rows):
            calls += self.split(i, "%ak")
            calls += f"%skip.c{i} = mul i64 %skip{i}, %sc\n%c{i} = getelementptr double, ptr %c, i64 %skip.c{i}\n"
            for columns in (COLUMNS, 2, 1, 0):
                text = f"i{i}.{columns}"
                size = f"%nt{columns}"
                extra = ", i64 %tail" if not columns else ""
                calls += f"""%{text}.c = getelementptr double, ptr %c{i}, i64 %at{columns}
%{text}.b = getelementptr double, ptr %bk, i64 %at{columns}
%{text}.n = mul i64 %at{columns}, %sbad
%{text}.bad = getelementptr double, ptr %bad, i64 %{text}.n
%{text}.count = mul i64 %mt{i}, {size}
%{text}.any = icmp ne i64 %{text}.count, 0
br i1 %{text}.any, label %{text}.go, label %{text}.on
{text}.go:
call void @tile{rows}x{columns or "m"}(ptr %a{i}, i64 %sm, i64 %sk, ptr %{text}.b, i64 %sb, ptr %{text}.c, i64 %sc, \
i64 %mt{i}, i64 {size}, i64 %kn, i1 %again, ptr %{text}.bad, i64 %sbad{extra})
br label %{text}.on
{text}.on:
"""
        whole = COLUMNS * self.lanes
        block = f"""%k0 = mul i64 %q, {BLOCK}
%k.left = sub i64 %k, %k0
%k.less = icmp ult i64 %k.left, {BLOCK}
%kn = select i1 %k.less, i64 %k.left, i64 {BLOCK}
%k.a = mul i64 %k0, %sk
%ak = getelementptr double, ptr %a, i64 %k.a
%k.b = mul i64 %k0, %sb
%bk = getelementptr double, ptr %b, i64 %k.b
%later = icmp ne i64 %q, 0
%again = or i1 %more, %later
{calls}"""
        tiles = [self.tile(rows, columns or 1, not columns) for rows in self.rows for columns in (COLUMNS, 2, 1, 0)]
        return f"""{"".join(tiles)}define void @product(ptr %a, i64 %sm, i64 %sk, ptr %b, i64 %sb, ptr %c, i64 %sc, \
i64 %m, i64 %n, i64 %k, i1 %more, ptr %bad, i64 %sbad) noinline {{
%nt{COLUMNS} = udiv i64 %n, {whole}
%n.rest = urem i64 %n, {whole}
%n.vectors = udiv i64 %n.rest, {self.lanes}
%nt2 = udiv i64 %n.vectors, 2
%nt1 = urem i64 %n.vectors, 2
%tail = urem i64 %n, {self.lanes}
%n.some = icmp ne i64 %tail, 0
%nt0 = zext i1 %n.some to i64
%at{COLUMNS} = add i64 0, 0
%at2 = mul i64 %nt{COLUMNS}, {whole}
%n.two = mul i64 %nt2, {2 * self.lanes}
%at1 = add i64 %at2, %n.two
%at0 = sub i64 %n, %tail
%q.up = add i64 %k, {BLOCK - 1}
%q.count = udiv i64 %q.up, {BLOCK}
{loop("q", "%q.count", block)}
ret void
}}
"""

    # --- y = A x ----------------------------------------------------------------------------------------------------

    def dots(self, rows: int) -> str:
        """The function of %mt times so many entries of y = A x; the entries of a row of A are side by side."""
        v, n = self.vector, self.lanes
        body = (
            f"%m.rows = mul i64 %m, {rows}\n%m.a = mul i64 %m.rows, %sm\n%a0 = getelementptr double, ptr %a, i64 %m.a\n"
        )
        body += "".join(f"%a{i} = getelementptr double, ptr %a{i - 1}, i64 %sm\n" for i in range(1, rows))
        body += "br label %t.start\nt.start:\nbr label %t.test\nt.test:\n"
        body += "%t = phi i64 [0, %t.start], [%t.next, %t.loop]\n"
        for i in range(rows):
            body += f"%s{i} = phi {v} [zeroinitializer, %t.start], [%u{i}, %t.loop]\n"
        body += "%t.again = icmp ult i64 %t, %whole\nbr i1 %t.again, label %t.loop, label %t.end\nt.loop:\n"
        body += "%xp = getelementptr double, ptr %x, i64 %t\n" + self.load("y", "%xp", False)
        for i in range(rows):
            body += f"%p{i} = getelementptr double, ptr %a{i}, i64 %t\n" + self.load(f"w{i}", f"%p{i}", False)
            body += self.fma(f"u{i}", f"%w{i}", "%y", f"%s{i}")
        body += f"%t.next = add i64 %t, {n}\nbr label %t.test\nt.end:\n"
        body += "%xe = getelementptr double, ptr %x, i64 %whole\n" + self.load("ye", "%xe", True)
        body += "%yp = getelementptr double, ptr %y.at, i64 %m.rows\n%bad.0 = load double, ptr %bad, align 8\n"
        for i in range(rows):
            body += f"%e{i} = getelementptr double, ptr %a{i}, i64 %whole\n" + self.load(f"v{i}", f"%e{i}", True)
            body += self.fma(f"z{i}", f"%v{i}", "%ye", f"%s{i}")
            body += f"%r{i} = call reassoc double @llvm.vector.reduce.fadd.v{n}f64(double -0.0, {v} %z{i})\n"
            body += f"%q{i} = getelementptr double, ptr %yp, i64 {i}\n%o{i} = load double, ptr %q{i}, align 8\n"
            body += f"%n{i} = fadd double %r{i}, %o{i}\n%f{i} = select i1 %more, double %n{i}, double %r{i}\n"
            body += f"store double %f{i}, ptr %q{i}, align 8\n%g{i} = fmul double %f{i}, 0.0\n"
            body += f"%bad.{i + 1} = fadd double %bad.{i}, %g{i}\n"
        body += f"store double %bad.{rows}, ptr %bad, align 8\n"
        return f"""define internal void @dots{rows}(ptr %a, i64 %sm, ptr %x, ptr %y.at, i64 %mt, i64 %k, i1 %more, \
ptr %bad) noinline {{
%rest = urem i64 %k, {n}
%whole = sub i64 %k, %rest
{self.mask("%rest")}{loop("m", "%mt", body)}
ret void
}}
"""

    def vector_product(self) -> str:
        """y = A x, or y += A x where %more."""
        calls = ""
        for i, rows in enumerate(self.rows):
            calls += self.split(i, "%a")
            calls += f"%y{i} = getelementptr double, ptr %y, i64 %skip{i}\n"
            calls += f"call void @dots{rows}(ptr %a{i}, i64 %sm, ptr %x, ptr %y{i}, i64 %mt{i}, i64 %k, i1 %more, "
            calls += "ptr %bad)\n"
        functions = "".join(map(self.dots, self.rows))
        return f"""{functions}define void @vector_product(ptr %a, i64 %sm, ptr %x, ptr %y, i64 %m, i64 %k, i1 %more, \
ptr %bad) noinline {{
{calls}ret void
}}
"""

    # --- transposition ----------------------------------------------------------------------------------------------

    def transposed(self) -> str:
        """B[j, i] = A[i, j] for %m rows and %n columns; B has room for whole vectors of rows, and A of columns."""
        n, v = self.lanes, self.vector
        body = "%tr.a = mul i64 %i.at, %sa\n%tr.aj = add i64 %tr.a, %j.at\n"
        body += "%pa0 = getelementptr double, ptr %a, i64 %tr.aj\n"
        body += "%tr.b = mul i64 %j.at, %sb\n%tr.bi = add i64 %tr.b, %i.at\n"
        body += "%pb0 = getelementptr double, ptr %b, i64 %tr.bi\n"
        for k in range(n):
            if k:
                # rows beyond the last are the last one again
                body += f"%in{k} = add i64 %i.at, {k}\n%is{k} = icmp ult i64 %in{k}, %m\n"
                body += f"%st{k} = select i1 %is{k}, i64 %sa, i64 0\n"
                body += f"%pa{k} = getelementptr double, ptr %pa{k - 1}, i64 %st{k}\n"
            body += self.load(f"v0.{k}", f"%pa{k}", False)
        names, half, level = [f"%v0.{k}" for k in range(n)], n // 2, 0
        while half:  # exchange the halves of pairs of rows, then quarters, ...
            level += 1
            new = [""] * n
            for k in range(n):
                if k & half:
                    continue
                low = [j if not j & half else n + j - half for j in range(n)]
                high = [j + half if not j & half else n + j for j in range(n)]
                for where, mask, name in ((k, low, f"%v{level}.{k}"), (k | half, high, f"%v{level}.{k | half}")):
                    order = ", ".join(f"i32 {j}" for j in mask)
                    body += f"{name} = shufflevector {v} {names[k]}, {v} {names[k | half]}, <{n} x i32> <{order}>\n"
                    new[where] = name
            names, half = new, half // 2
        for k in range(n):
            if k:
                body += f"%pb{k} = getelementptr double, ptr %pb{k - 1}, i64 %sb\n"
            body += self.store(names[k], f"%pb{k}", False)
        inner = f"%j.at = mul i64 %j, {n}\n{body}"
        return f"""define void @transposed(ptr %a, i64 %sa, ptr %b, i64 %sb, i64 %m, i64 %n) noinline {{
%m.up = add i64 %m, {n - 1}
%mt = udiv i64 %m.up, {n}
%n.up = add i64 %n, {n - 1}
%nt = udiv i64 %n.up, {n}
{loop("i", "%mt", f"%i.at = mul i64 %i, {n}{chr(10)}{loop('j', '%nt', inner)}")}
ret void
}}
"""

    def module(self) -> str:
        """The LLVM module with all functions."""
        return self.declarations() + self.product() + self.vector_product() + self.transposed()


class Matrices:
    """The functions as machine code, compiled once for all programs, and their addresses."""

    def __init__(self, machine: Host) -> None:
        self.code = Code(MatrixText(machine).module(), 2, "product")
        self.product = self.code.address
        self.vector_product, self.transposed = (
            int(self.code.engine.get_function_address(name)) for name in ("vector_product", "transposed")
        )


@functools.cache
def matrices(machine: Host) -> Matrices:
    """The functions for a machine."""
    return Matrices(machine)
