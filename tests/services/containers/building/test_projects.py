# ruff: noqa: E501
"""What a folder is taken for, and what it is told when it is nothing that can be built."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.containers.building.projects import Project, deployment_name, detect
from mcp_hub.services.containers.specs import ContainerSpec

Files = dict[str, str]


def _folder(root: Path, files: Files) -> Path:
    folder = root / "my server"
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


_PACKAGE = '[project]\nname = "Acme.Tools"\ndependencies = ["mcp>=2"]\n'
_BUILD = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
_ONE = '[project.scripts]\nacme = "acme:main"\n'


@pytest.mark.parametrize(
    ("files", "project"),
    [
        ({"Dockerfile": "FROM x", "package.json": "{}"}, Project("docker", "my-server")),
        (
            {"pyproject.toml": _PACKAGE + _ONE + _BUILD},
            Project("python", "acme-tools", ("acme",), ("mcp>=2", "hatchling"), True),
        ),
        (
            {"pyproject.toml": _PACKAGE, "main.py": ""},
            Project("python", "acme-tools", ("main.py",), ("mcp>=2", "setuptools>=64"), True),
        ),
        (
            {"pyproject.toml": "[tool.ruff]\n", "server.py": "", "requirements.txt": "# a\nmcp # b\n\nx>=1 \\\n  --hash=sha256:00\n"},
            Project("python", "my-server", ("server.py",), ("mcp", "x>=1")),
        ),
        (
            {"server.py": '#!/x\n# /// script\n# dependencies = ["mcp", "rich"]\n# ///\nimport mcp\n'},
            Project("python", "my-server", ("server.py",), ("mcp", "rich")),
        ),
        ({"server.py": "print()"}, Project("python", "my-server", ("server.py",))),
        (
            {"package.json": '{"name": "@acme/time-server", "bin": "./x.js"}', "x.js": ""},
            Project("node", "time-server", ("./x.js",)),
        ),
        (
            {"package.json": '{"name": "s", "bin": {"a": "a.js", "s": "s.js"}}', "s.js": ""},
            Project("node", "mcp-s", ("s.js",)),
        ),
        ({"package.json": '{"main": "lib/m.js"}', "lib/m.js": ""}, Project("node", "my-server", ("lib/m.js",))),
        ({"package.json": "{}", "index.js": ""}, Project("node", "my-server", ("index.js",))),
    ],
)  # fmt: skip
def test_a_project_is_found(tmp_path: Path, files: Files, project: Project) -> None:
    assert detect(_folder(tmp_path, files)) == project


@pytest.mark.parametrize(
    ("files", "message", "hint"),
    [
        ({"README.md": ""}, "holds no MCP server", "pyproject.toml"),
        ({"pyproject.toml": "[project]\nname='x'", "package.json": "{}"}, "both pyproject.toml and package.json", "--kind python"),
        ({"pyproject.toml": "[project"}, "cannot be read", None),
        ({"pyproject.toml": _PACKAGE + '[project.scripts]\nb = "b:b"\na = "a:a"\n'}, "several programs: a, b", "--script a"),
        ({"pyproject.toml": _PACKAGE}, "does not say what starts", "server.py"),
        ({"pyproject.toml": _PACKAGE.replace("dependencies", "dynamic").replace("mcp>=2", "dependencies") + _ONE}, "leaves its dependencies", "requirements.txt"),
        ({"server.py": "", "requirements.txt": "-e ."}, "no requirement: -e .", "Name packages only"),
        ({"server.py": "", "requirements.txt": "--index-url http://x"}, "no requirement", "pip's"),
        ({"package.json": "[]"}, "not an object", None),
        ({"package.json": "{"}, "cannot be read", None),
        ({"package.json": '{"bin": "dist/index.js"}'}, "dist/index.js, which is not there", "npm run build"),
        ({"package.json": '{"main": "../x.js"}'}, "../x.js, which is not there", "npm"),
        ({"package.json": '{"bin": {"a": "a.js", "b": "b.js"}}'}, "several programs", "--script a"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_says_what_is_missing(
    tmp_path: Path, files: Files, message: str, hint: str | None
) -> None:
    (tmp_path / "x.js").touch()
    with pytest.raises(InvalidArgument) as raised:
        detect(_folder(tmp_path, files))
    assert message in raised.value.message
    assert hint is None or hint in (raised.value.hint or "")


def test_what_starts_it_may_be_named(tmp_path: Path) -> None:
    scripts = '[project.scripts]\nb = "b:b"\na = "a:a"\n'
    folder = _folder(tmp_path, {"pyproject.toml": _PACKAGE + scripts, "package.json": "{}"})
    assert detect(folder, kind="python", script="b").command == ("b",)
    with pytest.raises(InvalidArgument, match="a, b"):
        detect(folder, kind="python", script="c")
    plain = _folder(tmp_path / "plain", {"server.py": "", "tool.py": ""})
    assert detect(plain, script="tool.py").command == ("tool.py",)
    with pytest.raises(InvalidArgument, match="does not say"):
        detect(plain, script="../../x.py")
    with pytest.raises(InvalidArgument, match="is no folder"):
        detect(tmp_path / "nowhere")


@given(st.text(max_size=60))
def test_any_text_makes_a_name_for_a_deployment(text: str) -> None:
    name = deployment_name(text)
    try:
        ContainerSpec(name=name, image="x")
    except ValidationError as error:
        raise AssertionError(json.dumps(name)) from error
