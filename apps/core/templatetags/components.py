"""The building blocks of every page, as template tags (a builtin). templates/components/README.md shows each."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from django import template
from django.forms import BaseForm, BoundField, CheckboxInput, RadioSelect, Select, Textarea
from django.forms.widgets import CheckboxSelectMultiple
from django.http import HttpRequest, QueryDict
from django.template.context import Context
from django.template.loader import render_to_string
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from apps.core import words
from apps.core.paging import CURSOR, Page

register = template.Library()
register.filter("shortened", words.shortened)

ICONS = frozenset((Path(__file__).resolve().parents[3] / "static" / "icons.txt").read_text().split())

STATES = frozenset({"ok", "wait", "risk", "now", "idle", "line"})
NOTE_ICONS = {"now": "bulb", "idle": "info-circle", "ok": "circle-check", "wait": "alert-triangle", "risk": "lock"}
# an entitlement's privilege, as (kind of badge, icon, word): only what can hurt has a colour
PRIVILEGES = {
    "read": ("idle", "eye", "Read"),
    "write": ("idle", "pencil", "Write"),
    "privileged": ("risk", "stairs-up", "Privileged"),
    "admin": ("risk", "crown", "Admin"),
    "none": ("idle", "circle-minus", "Nothing"),
    "unknown": ("wait", "question-mark", "Unknown"),
}
TIERS = {
    "auto": ("line", "bolt", "Auto"),
    "self": ("line", "fingerprint", "Self"),
    "approval": ("line", "users", "Approval"),
}
SOON = timedelta(minutes=15)
EMPTY = mark_safe("")


# -- icons, badges, people, things ------------------------------------------------------------------------------------


@register.simple_tag
def icon(name: str, classes: str = "") -> SafeString:
    """A decorative icon of the sprite. A name outside static/icons.txt is a ValueError."""
    return _icon(name, classes, _sprite())


@cache
def _sprite() -> str:
    """Where the icons are: the same for as long as a process lives, and asked for a hundred times a page."""
    return static("dist/icons.svg")


@lru_cache(maxsize=1024)
def _icon(name: str, classes: str, sprite: str) -> SafeString:
    if name not in ICONS:
        raise ValueError(f"icon {name!r} is not in static/icons.txt")
    css = f"icon {classes}".strip()
    return format_html('<svg class="{}" aria-hidden="true"><use href="{}#{}"/></svg>', css, sprite, name)


@register.simple_tag
def state(kind: str, icon_name: str, word: str) -> SafeString:
    """A badge: colour, icon and word together, because colour alone says nothing to some."""
    if kind not in STATES:
        raise ValueError(f"there is no kind of badge {kind!r}")
    return format_html('<span class="st st-{}">{}{}</span>', kind, icon(icon_name), word)


@register.simple_tag
@lru_cache(maxsize=64)
def privilege(value: str) -> SafeString:
    return state(*PRIVILEGES.get(str(value).lower(), PRIVILEGES["unknown"]))


@register.simple_tag
def tier(value: str) -> SafeString:
    """Outlined, since a tier is a rule and not a state. An unknown tier is a ValueError."""
    try:
        return state(*TIERS[str(value).lower()])
    except KeyError:
        raise ValueError(f"there is no tier {value!r}") from None


@register.simple_tag
def account(resource: Any, layout: str = "") -> SafeString:
    """A resource's name, then its id in groups of four. "stack" puts the id on a line of its own."""
    tag = "div" if layout == "stack" else "span"
    number = format_html('<{} class="gh-id">{}</{}>', tag, words.account_id(str(resource.external_id)), tag)
    return number if not resource.name else format_html("{} {}", resource.name, number)


@register.simple_tag
def avatar(name: object, kind: str = "") -> SafeString:
    """Initials in a circle; "machine" is a robot in a square, "lg" a large one. Decorative: a name stands beside it."""
    if kind == "machine":
        return format_html('<span class="gh-av gh-av-m" aria-hidden="true">{}</span>', icon("robot"))
    css = "gh-av gh-av-lg" if kind == "lg" else "gh-av"
    return format_html('<span class="{}" aria-hidden="true">{}</span>', css, words.initials(str(name)))


@register.simple_tag
def person(who: Any) -> SafeString:
    """Avatar and name of an identity or a user, linked to their page if they have one."""
    name = words.name_of(who)
    face = avatar(name, "machine" if getattr(who, "kind", "") == "machine" else "")
    url = getattr(who, "get_absolute_url", None)
    shown = format_html('<a href="{}">{}</a>', url(), name) if url else format_html("<span>{}</span>", name)
    return format_html('<span class="gh-person">{}{}</span>', face, shown)


@register.simple_tag
def crumb(label: str, url: str = "") -> SafeString:
    """One step of the breadcrumb: a link, or without a url the page itself."""
    if url:
        return format_html('<span class="gh-crumb"><a href="{}">{}</a></span>', url, label)
    return format_html('<span class="gh-crumb" aria-current="page">{}</span>', label)


@register.simple_tag
def access_path(steps: Iterable[Sequence[str]]) -> SafeString:
    """How access comes about, from the person to the account: (icon, text) or (icon, text, url) for each step."""
    items = format_html_join("", "{}", ((_path_step(*step),) for step in steps))
    return format_html('<ol class="gh-path">{}</ol>', items)


def _path_step(icon_name: str, text: str, url: str = "") -> SafeString:
    if url:
        return format_html('<li><a href="{}">{}{}</a></li>', url, icon(icon_name), text)
    return format_html("<li><span>{}{}</span></li>", icon(icon_name), text)


# -- time and numbers --------------------------------------------------------------------------------------------------


@register.simple_tag
def moment(at: datetime | None, style: str = "", empty: str = "unknown") -> SafeString | str:
    """An instant in words, with the exact UTC instant on hover."""
    if at is None:
        return empty
    exact = at.astimezone(UTC)
    said = words.moment(at, timezone.now(), style)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        f"{exact:%Y-%m-%dT%H:%M:%SZ}",
        f"{exact:%Y-%m-%d %H:%M:%S} UTC",
        said,
    )


@register.simple_tag
def duration(span: timedelta | float | None) -> str:
    return words.duration(span)


@register.simple_tag
def countdown(ends_at: datetime, started_at: datetime) -> SafeString:
    """What is left until `ends_at`, in words and as a share of the whole since `started_at`. The script counts on."""
    now = timezone.now()
    left, whole = words.seconds_of(ends_at - now), words.seconds_of(ends_at - started_at)
    return render_to_string(
        "components/countdown.html",
        {
            "ends_at": ends_at,
            "end": int(ends_at.timestamp() * 1000),
            "start": int(started_at.timestamp() * 1000),
            "now": int(now.timestamp() * 1000),
            "words": words.time_left(ends_at, now),
            "over": left == 0,
            "soon": left < SOON.total_seconds(),
            "share": _percent(left, whole),
        },
    )


@register.simple_tag
def ends_soon(ends_at: datetime) -> SafeString:
    """The amber badge of the last 15 minutes; the script shows it when its time comes."""
    now = timezone.now()
    hidden = "" if timedelta(0) < ends_at - now < SOON else mark_safe(" hidden")
    return format_html(
        '<span class="st st-wait" data-ends-soon="{}" data-now="{}"{}>{}Ends soon</span>',
        int(ends_at.timestamp() * 1000),
        int(now.timestamp() * 1000),
        hidden,
        icon("hourglass-low"),
    )


@register.simple_tag
def bar(value: int, total: int, what: str = "") -> SafeString:
    """A progress bar; with `what` ("decided") the words "31 of 46 decided" stand above it."""
    share, said = _percent(value, total), f"{value:,} of {total:,} {what}".strip()
    svg = format_html(
        '<svg class="gh-bar gh-bar-6{}" viewBox="0 0 100 4" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<rect class="t" width="100" height="4"/><rect class="{}" width="{}" height="4"/></svg>',
        "" if what else " gh-bar-sm",
        said,
        "o" if total and share == 100 else "v",
        share,
    )
    if not what:
        return svg
    return format_html('<div class="gh-progress"><span class="gh-num gh-strong">{}</span>{}</div>', said, svg)


def _percent(part: float, whole: float) -> int:
    return max(0, min(100, int(100 * part / whole))) if whole else 0


@register.simple_tag
def stat(label: str, value: object, small: object = "", tone: str = "") -> SafeString:
    """One number of a `<dl class="gh-stats">`; tone "risk", "wait" or "ok" colours it."""
    shown = f"{value:,}" if isinstance(value, int) else value
    css = format_html(' class="gh-t-{}"', tone) if tone else EMPTY
    unit = format_html(" <small>{}</small>", small) if small else EMPTY
    return format_html('<div class="gh-stat"><dt>{}</dt><dd{}>{}{}</dd></div>', label, css, shown, unit)


# -- blocks ------------------------------------------------------------------------------------------------------------


@register.simple_block_tag
def note(content: str, kind: str, title: str, icon_name: str = "") -> SafeString:
    """The title states it, the content gives the reason."""
    return format_html(
        '<div class="gh-note gh-note-{}">{}<div><p class="gh-note-h">{}</p><p>{}</p></div></div>',
        kind,
        icon(icon_name or NOTE_ICONS[kind]),
        title,
        content,
    )


@register.simple_block_tag
def empty(content: str, title: str) -> SafeString:
    """What is missing, then one link."""
    return format_html(
        '<div class="gh-empty"><p class="gh-strong">{}</p><p class="gh-small">{}</p></div>', title, content
    )


@register.simple_block_tag
def step(content: str, at: datetime, icon_name: str, title: str, kind: str = "") -> SafeString:
    """One row of a timeline: time, icon, title, sentence. Green: AWS confirmed it; indigo: a person signed."""
    dot = f"gh-dot gh-dot-{kind}" if kind else "gh-dot"
    return format_html(
        '<li>{}<span class="{}">{}</span><div class="gh-tl-b"><h3>{}</h3>{}</div></li>',
        moment(at, "time"),
        dot,
        icon(icon_name),
        title,
        content,
    )


@register.simple_tag
def copy(text: str, label: str = "Copy", said: str = "Copied.") -> SafeString:
    """A button that copies `text` and then says `said`. Hidden without JavaScript."""
    return format_html(
        '<button class="btn" type="button" data-copy="{}" data-copied="{}">{}{}</button>',
        text,
        said,
        icon("copy"),
        label,
    )


# -- forms -------------------------------------------------------------------------------------------------------------


@register.simple_tag
def field(bound: BoundField, style: str = "") -> SafeString:
    """Label, input, help and errors of one form field. "seg" shows radio buttons as a row of segments."""
    widget = bound.field.widget
    if bound.is_hidden:
        return bound.as_widget()
    context = {
        "field": bound,
        "id": bound.auto_id,
        "error_list": list(bound.errors),
        "optional": not bound.field.required and not isinstance(widget, CheckboxInput),
        "described_by": bound.aria_describedby,
        "label": bound.label,
        "help": bound.help_text,
    }
    if isinstance(widget, RadioSelect | CheckboxSelectMultiple):
        return render_to_string(
            "components/field_choices.html", context | {"choices": list(bound), "segments": style == "seg"}
        )
    css = _css(widget)
    attrs: dict[str, Any] = {"class": f"{css} {widget.attrs.get('class', '')}".strip()}
    if isinstance(widget, Textarea) and widget.attrs.get("rows") == "10":  # Django's default is too tall
        attrs["rows"] = "3"
    template_name = "components/field_check.html" if css == "form-check-input" else "components/field.html"
    return render_to_string(template_name, context | {"input": bound.as_widget(attrs=attrs)})


def _css(widget: object) -> str:
    if isinstance(widget, CheckboxInput):
        return "form-check-input"
    return "form-select" if isinstance(widget, Select) else "form-control"


@register.simple_tag
def form_errors(form: BaseForm) -> SafeString:
    """What is wrong with the form as a whole."""
    errors = form.non_field_errors()
    if not errors:
        return EMPTY
    text = format_html_join(" ", "{}", ((error,) for error in errors))
    return format_html(
        '<div class="gh-note gh-note-risk" role="alert">{}<div><p>{}</p></div></div>', icon("alert-circle"), text
    )


@register.simple_tag
def fields(form: BaseForm) -> SafeString:
    """All fields of a form, the errors of the whole on top."""
    return format_html("{}{}", form_errors(form), format_html_join("", "{}", ((field(bound),) for bound in form)))


# -- lists: search, filters, paging ------------------------------------------------------------------------------------


def _query(context: Context) -> QueryDict:
    request: HttpRequest | None = context.get("request")
    return request.GET.copy() if request else QueryDict(mutable=True)


@register.simple_tag(takes_context=True)
def qs(context: Context, **changes: Any) -> str:
    """This page's query string with changes; None or "" drops a key. Paging starts over."""
    query = _query(context)
    query.pop(CURSOR, None)
    for key, value in changes.items():
        if value is None or value == "":
            query.pop(key, None)
        else:
            query[key] = str(value)
    return f"?{query.urlencode()}"


@register.simple_tag(takes_context=True)
def search(context: Context, label: str, name: str = "q") -> SafeString:
    """The search field of a list, for a GET form; the other parameters travel along as hidden fields."""
    query = _query(context)
    value = query.get(name, "")
    kept = [(key, item) for key, items in query.lists() for item in items if key not in {name, CURSOR}]
    return render_to_string("components/search.html", {"label": label, "name": name, "value": value, "kept": kept})


@register.simple_tag(takes_context=True)
def filter_menu(context: Context, label: str, name: str, choices: Iterable[tuple[Any, str]]) -> SafeString:
    """A filter as a menu of links, so that it works without JavaScript and can be bookmarked."""
    chosen = _query(context).get(name, "")
    options = [(str(text), qs(context, **{name: value}), str(value) == chosen) for value, text in choices]
    current = next((text for text, _, is_chosen in options if is_chosen), "")
    clear = qs(context, **{name: None})
    return render_to_string(
        "components/filter_menu.html", {"label": label, "options": options, "current": current, "clear": clear}
    )


@register.simple_tag(takes_context=True)
def chip(context: Context, label: str, name: str, value: str) -> SafeString:
    """A filter that is on or off."""
    is_on = _query(context).get(name) == value
    if is_on:
        href = qs(context, **{name: None})
        return format_html('<a class="btn gh-on" href="{}" aria-current="true">{}{}</a>', href, label, icon("x"))
    return format_html('<a class="btn" href="{}">{}</a>', qs(context, **{name: value}), label)


@register.simple_tag
def pager(page: Page, total: str = "") -> SafeString:
    """Links to the page before and after; `total` ("1,284 identities") in words if it is known."""
    return render_to_string("components/pager.html", {"page": page, "total": total})


@register.simple_tag(takes_context=True)
def tab(context: Context, label: str, url: str, count: int | None = None) -> SafeString:
    """A tab that is a page of its own; the one that is shown marks itself."""
    request: HttpRequest | None = context.get("request")
    parts, query = urlsplit(url), _query(context)
    is_here = request is not None and request.path == parts.path
    current = is_here and all(query.get(key) == value for key, value in parse_qsl(parts.query))
    number = format_html(' <b class="gh-num">{}</b>', f"{count:,}") if count is not None else EMPTY
    mark = mark_safe(' aria-current="page"') if current else EMPTY
    return format_html('<a href="{}"{}>{}{}</a>', url, mark, label, number)
