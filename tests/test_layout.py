"""The layout of the source: imports only go down, and no file is in a circle of imports."""

import ast
from pathlib import Path

import pushforward

ROOT = Path(pushforward.__file__).parent


def modules():
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted([*ROOT.rglob("*.py"), *ROOT.rglob("*.pyi")]):  # a stub says what its package imports when it is used
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path, known):
    """Modules of the package that a file imports anywhere: at the top, inside functions, for types, or by ``importlib``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(path.relative_to(ROOT.parent).parts[:-1])  # relative imports stand in stubs of packages alone
            module = node.module if node.level == 0 else f"{package}.{node.module}" if node.module else package
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                yield from [inner] if inner in known else [module] if module in known else []
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "import_module":
            name = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
            if name in known:
                yield name


def circles(graph):
    """Strongly connected components of more than one module, by Tarjan's algorithm."""
    number, low, stack, found = {}, {}, [], []

    def visit(node):
        number[node] = low[node] = len(number)
        stack.append(node)
        for other in graph[node]:
            if other not in number:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], number[other])
        if low[node] == number[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(component) > 1:
                found.append(sorted(component))

    for node in graph:
        if node not in number:
            visit(node)
    return found


def graph():
    known = modules()
    return {name: sorted(set(imports(path, known)) - {name}) for name, path in known.items()}


def test_a_circle_is_found():
    assert circles({"a": ["b"], "b": ["c"], "c": ["b"]}) == [["b", "c"]]


def test_no_file_is_in_a_circle_of_imports():
    assert circles(graph()) == []


# Packages that take long to import, or that may be missing: functions import them when they need them.
DEFERRED = {
    *(
        "PIL",
        "accelerate",
        "diffusers",
        "huggingface_hub",
        "matplotlib",
        "onnx",
        "onnxscript",
        "pandas",
        "polars",
        "pyarrow",
        "rich",
        "safetensors",
        "scipy",
        "tokenizers",
    ),
    *("sklearn", "soundfile", "torch", "torchdiffeq", "vector_quantize_pytorch", "yaml", "zuko"),
}


def test_imports_inside_functions_defer_what_is_heavy_or_optional():
    """The command line defers the whole library; elsewhere only packages of others are deferred."""
    for name, path in modules().items():
        if name.startswith("pushforward.cli.") or path.suffix == ".pyi":
            continue
        functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
        for node in (inner for function in functions for inner in ast.walk(function)):
            deferred = []
            if isinstance(node, ast.Import):
                deferred = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                deferred = [node.module]
            for module in deferred:
                if module != "pushforward.interop.to_diffusers":  # it needs diffusers
                    assert module.partition(".")[0] in DEFERRED, f"{name} imports {module} inside a function"
