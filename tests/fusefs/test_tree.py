"""Names and inodes: against a naive model, over random updates."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st
from imgcat.catalog.records import MountEntry
from imgcat.fusefs.tree import ROOT_INODE, Node, Tree, Unlinked

_PARTS = st.sampled_from(["a", "b", "c", "d e", "é", "\udce9"])
_NAMES = st.lists(_PARTS, min_size=1, max_size=3).map("/".join)


def entry(image_id: int, name: str, index_id: int = 1, mtime_ns: int = 0) -> MountEntry:
    return MountEntry(image_id, name, 1000, 500, index_id, mtime_ns, 0o644, 0, 0)


@st.composite
def catalogs(draw: st.DrawFn) -> list[MountEntry]:
    names = draw(st.lists(_NAMES, unique=True, max_size=8))
    return [entry(number, name, draw(st.integers(1, 3))) for number, name in enumerate(names)]


def files(tree: Tree) -> dict[str, Node]:
    """Return every file by its path, walking from the root by name as the kernel does."""
    found: dict[str, Node] = {}

    def walk(inode: int, prefix: bytes) -> None:
        for node in tree.children(inode):
            assert tree.child(inode, node.name) is node
            assert tree.node(node.inode) is node
            if node.is_directory:
                walk(node.inode, prefix + node.name + b"/")
            else:
                found[(prefix + node.name).decode("utf-8", "surrogateescape")] = node

    walk(ROOT_INODE, b"")
    return found


@given(st.lists(catalogs(), min_size=1, max_size=5))
def test_the_tree_shows_every_image_once_and_inodes_mean_one_content(
    states: list[list[MountEntry]],
) -> None:
    tree = Tree()
    meaning: dict[int, tuple[int, int, int, int]] = {}
    for state in states:
        tree.update(state)
        found = files(tree)
        assert sorted(node.entry.image_id for node in found.values() if node.entry) == sorted(
            each.image_id for each in state
        )
        assert tree.image_count == len(state)
        for path, node in found.items():
            assert node.entry is not None
            assert path == node.entry.name or path.endswith(")")
            content = (
                node.entry.image_id, node.entry.index_id, node.entry.mtime_ns,
                node.entry.size_bytes,
            )  # fmt: skip
            assert meaning.setdefault(node.inode, content) == content


@given(catalogs(), catalogs())
def test_what_vanished_is_told_and_forgotten(
    before: list[MountEntry], after: list[MountEntry]
) -> None:
    tree = Tree()
    tree.update(before)
    old = files(tree)
    for node in old.values():
        tree.looked_up(node)
    told = tree.update(after)
    new = {node.inode for node in files(tree).values()}
    gone = {node.inode for node in old.values()} - new
    assert gone <= {each.inode for each in told}
    for inode in gone:
        # Known until the kernel forgets it, for files that are open.
        assert tree.node(inode) is not None
        tree.forget(inode, 1)
        assert tree.node(inode) is None
    for inode in new & {node.inode for node in old.values()}:
        tree.forget(inode, 1)
        assert tree.node(inode) is not None


def test_a_file_whose_name_is_a_directory_gets_a_number() -> None:
    tree = Tree()
    tree.update([entry(1, "a/b"), entry(2, "a"), entry(3, "a (2)")])
    assert {path: node.entry and node.entry.image_id for path, node in files(tree).items()} == {
        "a/b": 1, "a (2)": 3, "a (3)": 2,
    }  # fmt: skip


def test_an_unchanged_image_keeps_its_inode_and_a_changed_one_does_not() -> None:
    tree = Tree()
    tree.update([entry(1, "a"), entry(2, "b")])
    a, b = (tree.child(ROOT_INODE, name) for name in (b"a", b"b"))
    assert a is not None
    assert b is not None
    changed = dataclasses.replace(entry(2, "b"), index_id=9)
    assert tree.update([entry(1, "a"), changed]) == [Unlinked(ROOT_INODE, b"b", b.inode)]
    assert tree.child(ROOT_INODE, b"a") is a
    now = tree.child(ROOT_INODE, b"b")
    assert now is not None
    assert now.inode not in {a.inode, b.inode}


def test_permissions_follow_without_a_new_inode() -> None:
    tree = Tree()
    tree.update([entry(1, "a")])
    node = tree.child(ROOT_INODE, b"a")
    assert tree.update([dataclasses.replace(entry(1, "a"), mode=0o600)]) == []
    assert node is not None
    assert node.entry is not None
    assert node.entry.mode == 0o600
