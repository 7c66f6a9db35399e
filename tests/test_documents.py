"""What the documents name is there: files, headings of files, and documents that sources send their reader to."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MADE = {".venv", ".git", ".cache", "build", "dist", "__pycache__"}
SOURCES = {".py", ".h", ".cpp", ".mm", ".metal", ".md", ".sh", ".toml", ".yml", ".cmake", ".txt", ""}


def is_made(path: Path) -> bool:
    return any(part in MADE or part.startswith(".pytest") for part in path.relative_to(ROOT).parts)


FILES = [path for path in ROOT.rglob("*") if path.is_file() and path.suffix in SOURCES and not is_made(path)]
DOCUMENTS = sorted(path for path in FILES if path.suffix == ".md")


def without_code(text: str) -> str:
    """Markdown without its fenced and indented blocks, where brackets are no links."""
    return re.sub(r"^```.*?^```|^ {4}.*?$", "", text, flags=re.MULTILINE | re.DOTALL)


@cache
def anchors(document: Path) -> set[str]:
    """As GitHub makes them of headings: small letters, no punctuation, hyphens for blanks."""
    headings = re.findall(r"^#+ (.+)$", without_code(document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def problem_with(link: str, document: Path) -> str | None:
    """Why a link of this document leads nowhere. Nobody asks the network."""
    if re.match(r"[a-z]+:", link):
        return None
    name, _, anchor = link.partition("#")
    target = (document.parent / name).resolve() if name else document
    if not target.exists():
        return f"no file {name}"
    if anchor and anchor not in anchors(target):
        return f"no heading {anchor} in {target.name}"
    return None


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document):
    text = without_code(document.read_text())
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"^\[[^\]]+\]: (\S+)$", text, re.MULTILINE)
    assert [problem for link in links if (problem := problem_with(link, document))] == []


def test_documents_that_sources_name_are_there():
    """By their path from the root, or from the folder of the distribution that the source belongs to."""
    named = re.compile(r"(?<![\w/.-])((?:\.\./)*(?:[\w-]+/)+[\w-]+\.md)\b")
    missing = []
    for path in FILES:
        for name in named.findall(path.read_text(encoding="utf-8", errors="replace")):
            if not any((folder / name).exists() for folder in (ROOT, ROOT / "simulator", path.parent)):
                missing.append(f"{path.relative_to(ROOT)}: {name}")
    assert missing == []


def test_every_document_of_the_folder_is_in_its_index():
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / link).resolve() for link in re.findall(r"\]\(([^)#\s]+)", index.read_text())}
    assert {path for path in (ROOT / "docs").rglob("*.md") if path != index} - linked == set()
