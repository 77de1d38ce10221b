"""Eval items that hold next to nothing before and after they run. Knows no score and no reply.

pytest makes an item whole when it is collected, and keeps it so to the end: 4 kB each, and a task
may have 100,000. An `EvalItem` is made whole by pytest's own `Function.__init__` when it is first
looked into, runs as any other, and lets go of what that made once its reports are out.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest

from harness.surface import eval_properties
from harness.surface.eval_properties import Packed, packed, unpacked
from harness.surface.eval_trials import ARGUMENT, EvalTrial

_RUNNING = frozenset({"_request", "funcargs", "_instance", "_obj", "location"})
"""What an item has only once it was looked into or ran."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Kind:
    """What the items of one eval function have in common."""

    template: pytest.Function
    above: tuple[Any, ...]
    known: frozenset[str]
    base_id: Any


def keys_of_pytest(config: pytest.Config) -> Sequence[pytest.StashKey[Any]]:
    """Return the stash keys of pytest's own plugins that an item has no use for once torn down."""
    owners = {"skipping": "xfailed_key", "tmpdir": "tmppath_result_key"}
    found = [getattr(config.pluginmanager.get_plugin(p), key, None) for p, key in owners.items()]
    return [key for key in found if isinstance(key, pytest.StashKey)]


def share_ids(session: pytest.Session) -> None:
    """Let what pytest's cache knows of earlier sessions be the ids of the items themselves.

    It reads an id anew for every item that ever ran, and keeps both to the end.
    """
    plugin = session.config.pluginmanager.get_plugin("nfplugin")
    earlier = getattr(plugin, "cached_nodeids", None)
    if isinstance(earlier, set) and len(earlier) >= eval_properties.MANY:
        ids = {getattr(item, "id", None) for item in session.items}
        if None not in ids:
            vars(plugin)["cached_nodeids"] = ids | (earlier - ids)


class EvalItem(pytest.Function):
    """One eval of one trial, whole: a function item as pytest makes it."""

    __slots__ = ("_index", "_kind", "_properties", "_stash", "trial")
    trial: EvalTrial
    _index: int
    _kind: _Kind
    _properties: Packed
    _stash: pytest.Stash | None

    def __repr__(self) -> str:
        return f"<Function {self.name}>"  # what --collect-only shows

    @cached_property
    def location(self) -> tuple[str, int | None, str]:
        """Where the function stands, and the name: pytest looks for the file of each item anew."""
        template = self._kind.template
        path, line, name = template.location
        return path, line, name.removesuffix(template.name) + self.name

    def iter_markers_with_node(
        self, name: str | None = None
    ) -> Iterator[tuple[pytest.Item | pytest.Collector, pytest.Mark]]:
        """Yield marks, the nearest first: pytest asks six times an item, and few have any."""
        for node in (self, *self._kind.above):
            for mark in node.own_markers:
                if name is None or getattr(mark, "name", None) == name:
                    yield node, mark

    def let_go(self, done: Sequence[pytest.StashKey[Any]]) -> None:
        """Drop what running needed. `done` are stash keys that nobody asks for any more.

        What others put into the item or its stash stays, and so do its properties.
        """
        mine, stash = vars(self), self.stash
        others = {k: v for k, v in mine.items() if k not in self._kind.known}
        is_ours = len(stash) == sum(key in stash for key in done)
        self._stash = None if is_ours else stash
        if getattr(self._id, "_str_cache", None):
            object.__setattr__(self._id, "_str_cache", None)  # made again if anybody asks
        if self._properties != self.user_properties:
            self._properties = self.user_properties
        kept, case = packed(self.user_properties)
        if case == self.trial.id.case_id:
            self._properties = kept
        del self._store, self.__dict__
        if others:
            vars(self).update(others)
        object.__setattr__(self, "__class__", _Waiting)

    def has_told(self, report: pytest.TestReport) -> None:
        """Take the properties that a report has: equal ones are kept once."""
        self._properties = report.user_properties


class _Waiting(EvalItem):
    """An eval item that nobody looked into yet, or no more; whoever does makes it whole."""

    __slots__ = ()

    def make_whole(self) -> None:
        """Make of it what pytest would have made when it was collected."""
        kind, stash, its_id = self._kind, self._stash, self._id
        title: Any = its_id.params
        name, others = self.name, vars(self)
        if others:
            others = dict(others)
        object.__setattr__(self, "__class__", EvalItem)
        pytest.Function.__init__(
            self,
            name,
            self.parent,
            callspec=_callspec(self, title),
            fixtureinfo=kind.template._fixtureinfo,
            keywords={title: True},
            originalname=kind.template.originalname,
        )
        self._id = its_id  # one object, in this and in every report
        vars(self).update(others)
        self.user_properties = unpacked(self._properties, self.trial.id.case_id)
        if stash is not None:
            self.stash = self._store = stash

    @property
    def obj(self) -> Any:
        """The eval function; a method belongs to an instance that only a whole item has."""
        if not isinstance(self.parent, pytest.Module):
            self.make_whole()
            return self.obj
        return self._kind.template.obj

    @obj.setter
    def obj(self, value: object) -> None:
        self.make_whole()
        self.obj = value

    def __getattr__(self, name: str) -> Any:
        # asked for of every item while pytest collects, so told without making it whole
        if name in {"originalname", "fixturenames", "_fixtureinfo"}:
            return getattr(self._kind.template, name)
        if name == "callspec":
            return _callspec(self, self._id.params)
        if name == "_id":
            found = self._kind.base_id.with_params(self.trial.title)
            object.__setattr__(self, name, found)
            return found
        if name == "name":
            return f"{self._kind.template.originalname}[{self._id.params}]"
        if name.startswith("__"):
            raise AttributeError(name)
        self.make_whole()
        return getattr(self, name)

    def __setattr__(self, name: str, value: object) -> None:
        if name != "__class__":
            self.make_whole()
        object.__setattr__(self, name, value)


def _callspec(item: EvalItem, title: Any) -> Any:
    spec: Any = item._kind.template.callspec
    made = object.__new__(
        type(spec)
    )  # asked for four times an item: `replace` takes thrice as long
    own = {"params": {ARGUMENT: item.trial}, "indices": {ARGUMENT: item._index}, "_idlist": [title]}
    vars(made).update(vars(spec), **own)
    return made


# ---------------------------------------------------------------- collecting


@dataclass(slots=True)
class Plan:
    """What `pytest_generate_tests` is to do for one function: `is_brief` makes an item of its
    first trial alone, and `trials` says afterwards of which there are to be more.
    """

    is_brief: bool = False
    trials: Sequence[EvalTrial] = ()


def eval_items(
    collector: pytest.Module | pytest.Class, name: str, obj: object, plan: Plan
) -> list[pytest.Function] | None:
    """Return the items of an eval function; None where pytest is to collect it as any other."""
    if (
        not inspect.isfunction(obj)
        or inspect.isgeneratorfunction(obj)
        or not collector.istestfunction(obj, name)
        or not getattr(obj, "__test__", True)
        or any(mark.name == "parametrize" for mark in getattr(obj, "pytestmark", ()))
    ):
        return None
    plan.is_brief, plan.trials = True, ()
    try:
        made = list(collector._genfunctions(name, obj))
    finally:
        plan.is_brief = False
    if not plan.trials:
        return made
    return (lean_items(made[0], plan.trials) if len(made) == 1 else []) or None


def lean_items(template: pytest.Function, trials: Sequence[EvalTrial]) -> list[pytest.Function]:
    """Return an item for each of `trials`, alike to `template`, which is that of the first.

    Returns nothing where they could not be what pytest would make: it then collects them itself.
    """
    spec = getattr(template, "callspec", None)
    titles = {trial.title for trial in trials}
    if (
        type(template) is not pytest.Function
        or spec is None
        or not hasattr(spec, "__dict__")
        or list(spec.params) != [ARGUMENT]
        or len(titles) != len(trials)  # pytest numbers equal ones, and escapes others
        or not all(t.isascii() and t.isprintable() and "\\" not in t for t in titles)
    ):
        return []
    base_id = getattr(template.parent, "id", None)
    if base_id is None:  # a pytest before 9.1
        return []
    kind = _Kind(
        template=template,
        above=tuple(template.iter_parents())[1:],
        known=frozenset(vars(template)) | _RUNNING,
        base_id=base_id.child(template.originalname),
    )
    items: list[pytest.Function] = [_waiting(kind, trial, n) for n, trial in enumerate(trials)]
    return items if _is_alike(_waiting(kind, trials[0], 0), template) else []


def _waiting(kind: _Kind, trial: EvalTrial, index: int) -> _Waiting:
    item = object.__new__(_Waiting)
    template = kind.template
    for name, value in (
        ("parent", template.parent),
        ("config", template.config),
        ("session", template.session),
        ("path", template.path),
        ("trial", trial),
        ("_kind", kind),
        ("_index", index),
        ("_properties", ()),
        ("_stash", None),
    ):
        object.__setattr__(item, name, value)
    return item


def _is_alike(item: _Waiting, template: pytest.Function) -> bool:
    """Tell whether what we make is what pytest made: another version may make more of it."""
    told = (item.nodeid, item.name, item.callspec)
    place = item.location
    item.make_whole()
    whole: Any = item
    return (
        told == (template.nodeid, template.name, template.callspec)
        and (whole.nodeid, whole.name, whole.callspec) == told
        and place == template.location
        and dict(whole.keywords) == dict(template.keywords)
        and whole.own_markers == template.own_markers
        and vars(whole).keys() == vars(template).keys()
    )
