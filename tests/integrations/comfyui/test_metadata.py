import importlib.metadata
import tomllib

from .conftest import FOLDER


ROOT = FOLDER.parents[1]
METADATA = tomllib.loads((FOLDER / "pyproject.toml").read_text())


def test_the_registrys_own_section():
    section = METADATA["tool"]["comfy"]
    assert set(section) == {"PublisherId", "DisplayName", "Icon"} and all(section.values())
    assert (FOLDER / section["Icon"].rpartition("/")[2]).is_file()


def test_it_is_of_the_packages_version_and_asks_for_no_more():
    project, package = METADATA["project"], tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "comfy" not in project["name"].lower()  # the registry's wish
    assert project["version"] == package["version"] and project["requires-python"] == package["requires-python"]
    assert project["dependencies"] == [importlib.metadata.metadata("difface-diffusers")["Name"]]
    assert (FOLDER / "requirements.txt").read_text().split() == project["dependencies"]


def test_it_does_not_go_into_the_packages_wheel():
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert set(wheel) == {"only-include"}
    assert not any(path.startswith("integrations") for path in wheel["only-include"])


def test_the_readme_names_every_node(package):
    text = (FOLDER / "README.md").read_text()
    assert all(f"| {name} |" in text for name in package.NODE_DISPLAY_NAME_MAPPINGS.values())
