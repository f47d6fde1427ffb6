"""Names and inodes: against a naive model, over random updates."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imgcat.catalog.records import MountEntry
from imgcat.fusefs.tree import (
    CONTENT_BITS,
    FILE_BITS,
    ROOT_INODE,
    Node,
    Planner,
    Tree,
    Unlinked,
    inode_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from imgcat.fusefs.tree import Applied

_PARTS = st.sampled_from(["a", "b", "c", "d e", "é", "\udce9", "a (2)"])
_NAMES = st.lists(_PARTS, min_size=1, max_size=3).map("/".join)


def entry(image_id: int, name: str, index_id: int = 0, mtime_ns: int = 0) -> MountEntry:
    index_id = index_id or 100 + image_id
    return MountEntry(image_id, name, 1000, 500, index_id, 7 * index_id, False, mtime_ns)


def row(of: MountEntry) -> tuple[Any, ...]:
    """Return an entry as the catalog has it in a row."""
    return dataclasses.astuple(of)


class Mounted:
    """A tree that follows a catalog."""

    def __init__(self) -> None:
        self.tree = Tree()
        self.planner = Planner()

    def update(self, entries: Iterable[MountEntry]) -> Applied | None:
        changes = self.planner.plan([row(each) for each in entries])
        return None if changes is None else self.tree.apply(changes)


@st.composite
def catalogs(draw: st.DrawFn) -> list[MountEntry]:
    names = draw(st.lists(_NAMES, unique=True, max_size=8))
    # A new scan has a new index, whatever image it is of.
    return [
        entry(number, name, 10 * number + draw(st.integers(1, 3)))
        for number, name in enumerate(names, 1)
    ]


def files(tree: Tree) -> dict[str, Node]:
    """Return every file by its path, walking from the root by name as the kernel does."""
    found: dict[str, Node] = {}

    def walk(inode: int, prefix: bytes) -> None:
        directories = 0
        for node in tree.children(inode):
            assert tree.child(inode, node.name) is node
            assert tree.node(node.inode) is node
            if node.is_directory:
                directories += 1
                walk(node.inode, prefix + node.name + b"/")
            else:
                found[(prefix + node.name).decode("utf-8", "surrogateescape")] = node
        here = tree.node(inode)
        assert here is not None
        assert here.subdirectory_count == directories

    walk(ROOT_INODE, b"")
    return found


def numbers(tree: Tree) -> dict[str, tuple[int, int | None]]:
    """Return inode number and image of every file, by path."""
    return {path: (n.inode, n.entry and n.entry.image_id) for path, n in files(tree).items()}


@given(st.lists(catalogs(), min_size=1, max_size=6))
def test_whatever_was_before_the_tree_is_what_a_new_mount_shows(
    states: list[list[MountEntry]],
) -> None:
    mounted = Mounted()
    for state in states:
        mounted.update(state)
        fresh = Mounted()
        fresh.update(state)
        assert numbers(mounted.tree) == numbers(fresh.tree)
        found = files(mounted.tree)
        assert {node.entry for node in found.values()} == set(state)
        assert mounted.tree.image_count == len(state)
        assert mounted.tree.size_bytes == 1000 * len(state)
        for path, node in found.items():
            assert node.entry is not None
            assert path == node.entry.name or path.endswith(")")
            assert node.inode == inode_of(node.entry) == node.entry.index_id << 40


@given(st.lists(catalogs(), min_size=2, max_size=4))
def test_what_leads_elsewhere_is_told(states: list[list[MountEntry]]) -> None:
    mounted = Mounted()
    mounted.update(states[0])
    for state in states[1:]:
        before = {path: node.inode for path, node in files(mounted.tree).items()}
        applied = mounted.update(state)
        after = {path: node.inode for path, node in files(mounted.tree).items()}
        told = set() if applied is None else {each.inode for each in applied.unlinked}
        assert {inode for path, inode in before.items() if after.get(path) != inode} <= told
        assert applied is None or applied.reused == []
        for inode in set(before.values()) - set(after.values()):
            assert mounted.tree.node(inode) is None


def test_nothing_is_done_where_nothing_that_is_shown_has_changed() -> None:
    mounted = Mounted()
    state = [entry(1, "a"), entry(2, "b/c")]
    assert mounted.update(state) is not None
    assert mounted.update(state) is None
    assert mounted.update(reversed(state)) is None


def test_only_what_has_changed_is_planned() -> None:
    planner = Planner()
    many = [row(entry(number, f"shelf{number % 7}/image{number}")) for number in range(1, 500)]
    assert planner.plan(many) is not None
    changes = planner.plan([*many[:-1], row(entry(499, "another/name"))])
    assert changes is not None
    assert changes.removed == [(b"shelf2", b"image499")]
    assert [path for path, _entry in changes.placed] == [(b"another", b"name")]
    changes = planner.plan(many[3:-1])
    assert changes is not None
    assert len(changes.removed) == 4
    assert changes.placed == []


def test_a_file_whose_name_is_a_directory_gets_a_number() -> None:
    mounted = Mounted()
    mounted.update([entry(1, "a/b"), entry(2, "a"), entry(3, "a (2)")])
    expected = {"a/b": 1, "a (2)": 3, "a (3)": 2}
    assert {path: each[1] for path, each in numbers(mounted.tree).items()} == expected
    # And gives it back.
    mounted.update([entry(2, "a"), entry(3, "a (2)")])
    assert {path: each[1] for path, each in numbers(mounted.tree).items()} == {"a": 2, "a (2)": 3}


def test_an_unchanged_image_keeps_its_inode_and_a_changed_one_does_not() -> None:
    mounted = Mounted()
    mounted.update([entry(1, "a"), entry(2, "b")])
    a, b = (mounted.tree.child(ROOT_INODE, name) for name in (b"a", b"b"))
    assert a is not None
    assert b is not None
    applied = mounted.update([entry(1, "a"), entry(2, "b", index_id=9)])
    assert applied == ([Unlinked(ROOT_INODE, b"b", b.inode)], [], [])
    assert mounted.tree.child(ROOT_INODE, b"a") is a
    now = mounted.tree.child(ROOT_INODE, b"b")
    assert now is not None
    assert now.inode == 9 << 40


def test_times_follow_without_a_new_inode() -> None:
    mounted = Mounted()
    mounted.update([entry(1, "a")])
    node = mounted.tree.child(ROOT_INODE, b"a")
    assert node is not None
    assert mounted.update([entry(1, "a", mtime_ns=5)]) == ([], [], [node.inode])
    assert node.entry is not None
    assert node.entry.mtime_ns == 5


def test_a_number_that_comes_again_for_another_content_is_told() -> None:
    """As after a catalog was put back from a copy, and went on from there."""
    mounted = Mounted()
    old = entry(1, "a")
    mounted.update([old])
    other = dataclasses.replace(old, content_key=old.content_key + 1)
    applied = mounted.update([other])
    assert applied == ([Unlinked(ROOT_INODE, b"a", inode_of(old))], [inode_of(old)], [])
    # Also where it was away for a while.
    mounted.update([])
    applied = mounted.update([old])
    assert applied is not None
    assert applied.reused == [inode_of(old)]


def test_inode_numbers_are_as_wide_as_they_may_be() -> None:
    assert CONTENT_BITS + FILE_BITS == 64
    mounted = Mounted()
    largest = (1 << CONTENT_BITS) - 1
    mounted.update([entry(1, "a", largest), entry(2, "b", largest + 1), entry(3, "c/d")])
    found = files(mounted.tree)
    # What is wider is refused.
    assert set(found) == {"a", "c/d"}
    assert found["a"].inode == largest << 40
    directory = mounted.tree.child(ROOT_INODE, b"c")
    assert directory is not None
    assert ROOT_INODE < directory.inode < 1 << FILE_BITS


def test_a_directory_is_listed_from_a_place_on_whatever_comes_and_goes() -> None:
    mounted = Mounted()
    mounted.update([entry(n, f"image{n}") for n in range(1, 9)] + [entry(9, "d/x")])
    everything = mounted.tree.children(ROOT_INODE)
    places = [node.place for node in everything]
    assert places == sorted(set(places))
    assert all(0 < place < 1 << 63 for place in places)
    seen = everything[:4]
    mounted.update([entry(n, f"image{n}") for n in (2, 5, 6, 7, 8, 10)] + [entry(9, "d/x")])
    rest = mounted.tree.children(ROOT_INODE, seen[-1].place)
    assert not {node.name for node in seen} & {node.name for node in rest}
    assert {b"image5", b"image6", b"image7", b"image8", b"image10"} <= {node.name for node in rest}


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "a\0b"}, {"name": "a//b"}, {"size_bytes": "much"}, {"used_bytes": -1},
        {"index_id": 0}, {"content_key": None}, {"mtime_ns": "x"},
    ],
    ids=str,
)  # fmt: skip
def test_a_row_with_nonsense_is_left_out(changed: dict[str, Any]) -> None:
    mounted = Mounted()
    mounted.update([dataclasses.replace(entry(1, "a"), **changed), entry(2, "b")])
    assert set(files(mounted.tree)) == {"b"}
