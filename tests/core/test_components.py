from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import time_machine
from django import forms
from django.template import engines
from django.test import RequestFactory

from apps.core import words
from apps.core.templatetags.components import ICONS

NOW = datetime(2026, 11, 24, 14, 55, tzinfo=UTC)
HOSTILE = """"><script>alert('x')</script>"""


@pytest.fixture(autouse=True)
def _clock() -> Any:
    with time_machine.travel(NOW, tick=False):
        yield


def render(source: str, query: str = "", **context: Any) -> str:
    request = RequestFactory().get(f"/list/?{query}")
    return engines["django"].from_string(source).render(context, request).strip()


# Words


@pytest.mark.parametrize(
    ("span", "said"),
    [
        (timedelta(seconds=41), "41 s"),
        (timedelta(minutes=12, seconds=59), "12 min"),
        (timedelta(hours=1), "1 h"),
        (timedelta(hours=1, minutes=47), "1 h 47 min"),
        (timedelta(days=1), "1 day"),
        (timedelta(days=3, hours=4), "3 days 4 h"),
        (90, "1 min"),
        (timedelta(minutes=-5), "0 s"),
        (None, "unknown"),
    ],
)
def test_a_duration_is_said_in_its_two_largest_units(span: Any, said: str) -> None:
    assert render("{% duration span %}", span=span) == said


@pytest.mark.parametrize(
    ("away", "said"),
    [
        (timedelta(seconds=-20), "just now"),
        (timedelta(minutes=-4), "4 min ago"),
        (timedelta(minutes=12), "in 12 min"),
        (timedelta(hours=-2), "today 12:55"),
        (timedelta(hours=20), "tomorrow 10:55"),
        (timedelta(days=-1), "yesterday 14:55"),
        (timedelta(days=-4), "20 Nov 14:55"),
        (timedelta(days=-365), "24 Nov 2025 14:55"),
    ],
)
def test_an_instant_is_said_in_words(away: timedelta, said: str) -> None:
    assert words.moment(NOW + away, NOW) == said


def test_a_moment_carries_the_exact_utc_instant_whatever_its_zone() -> None:
    html = render("{% moment at %}", at=datetime.fromisoformat("2026-11-24T13:20:05+01:00"))
    assert html == '<time datetime="2026-11-24T12:20:05Z" title="2026-11-24 12:20:05 UTC">today 12:20</time>'


def test_a_missing_instant_is_unknown_and_not_never() -> None:
    assert render("{% moment None %} {% moment None empty='Never' %}") == "unknown Never"


@pytest.mark.parametrize(
    ("external_id", "shown"),
    [("441209375518", "4412-0937-5518"), ("o-4412", "o-4412"), ("٤٤١٢٠٩٣٧٥٥١٨", "٤٤١٢٠٩٣٧٥٥١٨")],
)
def test_only_account_ids_are_grouped(external_id: str, shown: str) -> None:
    html = render("{% account thing %}", thing=SimpleNamespace(name="prod-payments", external_id=external_id))
    assert html == f'prod-payments <span class="gh-id">{shown}</span>'


@pytest.mark.parametrize(
    ("name", "letters"),
    [("Priya Raman", "PR"), ("alice@example.com", "A"), ("anna.berg@example.com", "AB"), ("<b>", "?"), ("", "?")],
)
def test_initials(name: str, letters: str) -> None:
    assert words.initials(name) == letters


# Badges


@pytest.mark.parametrize("name", sorted(ICONS))
def test_every_listed_icon_can_be_drawn(name: str) -> None:
    assert f"#{name}" in render(f'{{% icon "{name}" %}}')


def test_an_icon_outside_the_list_fails() -> None:
    with pytest.raises(ValueError, match="sprite-of-nothing"):
        render('{% icon "sprite-of-nothing" %}')


@pytest.mark.parametrize(
    ("value", "badge"),
    [
        ("read", "st-idle"),
        ("write", "st-idle"),
        ("privileged", "st-risk"),
        ("admin", "st-risk"),
        ("unknown", "st-wait"),
        ("", "st-wait"),
        ("invented", "st-wait"),
    ],
)
def test_privilege_has_a_colour_only_where_it_can_hurt_and_never_less_than_unknown(value: str, badge: str) -> None:
    assert f'class="st {badge}"' in render("{% privilege value %}", value=value)


def test_a_badge_is_an_icon_and_a_word() -> None:
    html = render('{% tier "self" %}')
    assert "#fingerprint" in html
    assert html.endswith("Self</span>")


def test_an_unknown_tier_fails() -> None:
    with pytest.raises(ValueError, match="manager"):
        render('{% tier "manager" %}')


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("It has a key.", "It has a key."),
        ("in another of our accounts", "in another of our…"),
        ("in another, of our own accounts", "in another, of our…"),
        ("in another place, accounts", "in another place…"),
        ("It arn:aws:iam::123456789012:root", "It arn:aws:iam::123…"),
        ("", ""),
        (HOSTILE, "&quot;&gt;&lt;script&gt;alert(&#x27;x&#x27;…"),
    ],
)
def test_a_long_sentence_is_cut_at_a_words_end(text: str, said: str) -> None:
    assert render("{{ text|shortened:20 }}", text=text) == said


# Hostile input


@pytest.mark.parametrize(
    "source",
    [
        '{% state "ok" "check" text %}',
        "{% account thing %}",
        "{% account thing 'stack' %}",
        "{% person thing %}",
        "{% avatar text %}",
        "{% avatar text 'lg' %}",
        "{% stat text text text %}",
        '{% note "wait" text %}{{ text }}{% endnote %}',
        "{% empty text %}{{ text }}{% endempty %}",
        '{% step at "check" text %}{{ text }}{% endstep %}',
        "{% access_path steps %}",
        "{% crumb text text %}{% crumb text %}",
        "{% copy text text text %}",
        "{% bar 1 2 text %}",
        "{% search text %}",
        "{% filter_menu text 'risk' choices %}",
        "{% chip text 'env' text %}",
        "{% tab text text 1 %}",
        "{% pager page text %}",
        "{% moment None empty=text %}",
        "{% fields form %}",
    ],
)
def test_what_an_outsider_named_is_escaped(source: str) -> None:
    class Form(forms.Form):
        reason = forms.CharField(label=HOSTILE, help_text=HOSTILE)
        tier = forms.ChoiceField(label=HOSTILE, choices=[(HOSTILE, HOSTILE)], widget=forms.RadioSelect)

        def clean(self) -> None:
            raise forms.ValidationError(HOSTILE)

    html = render(
        source,
        query="q=%22%3E%3Cscript%3E&risk=%22%3E%3Cscript%3E&%22%3E%3Cscript%3E=1",
        text=HOSTILE,
        at=NOW,
        thing=SimpleNamespace(name=HOSTILE, external_id=HOSTILE, get_absolute_url=lambda: HOSTILE),
        steps=[("user", HOSTILE), ("key", HOSTILE, HOSTILE)],
        choices=[(HOSTILE, HOSTILE)],
        page=SimpleNamespace(next_url_params=HOSTILE, previous_url_params=HOSTILE),
        form=Form({"reason": HOSTILE, "tier": HOSTILE}),
    )
    assert "<script" not in html
    assert html.count('"') % 2 == 0


# Time left


def test_a_grant_counts_down_with_the_share_of_its_time() -> None:
    html = render("{% countdown end start %}", end=NOW + timedelta(minutes=107), start=NOW - timedelta(minutes=13))
    assert ">1 h 47 min</time> <small>left</small>" in html
    assert 'aria-label="89 percent of the time is left"' in html
    assert "gh-t-wait" not in html
    assert f'data-end="{int((NOW + timedelta(minutes=107)).timestamp() * 1000)}"' in html


def test_the_last_quarter_of_an_hour_is_amber() -> None:
    html = render("{% countdown end start %}{% ends_soon end %}", end=NOW + timedelta(minutes=12), start=NOW)
    assert "gh-t-wait" in html
    assert " hidden>" not in html


def test_time_that_is_up_is_not_called_left() -> None:
    html = render("{% countdown end start %}{% ends_soon end %}", end=NOW, start=NOW - timedelta(hours=1))
    assert "Time is up" in html
    assert "left</small>" not in html
    assert " hidden>" in html


@pytest.mark.parametrize(
    ("value", "total", "width"), [(31, 46, 67), (0, 61, 0), (72, 72, 100), (0, 0, 0), (99, 9, 100)]
)
def test_a_bar_is_as_wide_as_its_share(value: int, total: int, width: int) -> None:
    html = render("{% bar value total %}", value=value, total=total)
    assert f'width="{width}" height="4"/></svg>' in html
    assert f'aria-label="{value} of {total}"' in html


# Forms


class Ask(forms.Form):
    reason = forms.CharField(widget=forms.Textarea, help_text="One sentence.")
    ticket = forms.CharField(required=False)
    hours = forms.ChoiceField(choices=[("1", "1 h"), ("2", "2 h")], widget=forms.RadioSelect)
    sure = forms.BooleanField(label="I read it")


def test_help_and_errors_are_tied_to_their_field() -> None:
    html = render("{% field form.reason %}", form=Ask({}))
    assert 'aria-describedby="id_reason_helptext id_reason_error"' in html
    assert 'id="id_reason_helptext"' in html
    assert 'id="id_reason_error"' in html
    assert 'aria-invalid="true"' in html


def test_choices_are_a_group_with_the_error_tied_to_it() -> None:
    html = render("{% field form.hours 'seg' %}", form=Ask({"hours": "9"}))
    assert html.startswith('<fieldset class="gh-field" aria-describedby="id_hours_error">')
    assert html.count('type="radio"') == 2


def test_what_was_typed_is_kept() -> None:
    html = render("{% fields form %}", form=Ask({"reason": "p99 is 4 s", "hours": "2", "sure": "on"}))
    assert "p99 is 4 s</textarea>" in html
    assert 'value="2" id="id_hours_1" checked' in html


def test_only_optional_fields_say_so() -> None:
    html = render("{% fields form %}", form=Ask())
    assert html.count("optional") == 1


# Filters


def test_a_changed_filter_starts_at_the_first_page_and_keeps_the_rest() -> None:
    assert render("{% qs risk='admin' %}", query="q=pay&risk=read&page=abc") == "?q=pay&amp;risk=admin"
    assert render("{% qs risk=None %}", query="q=pay&risk=read") == "?q=pay"


def test_searching_keeps_the_filters_and_starts_at_the_first_page() -> None:
    html = render("{% search 'Find' %}", query="q=old&risk=admin&page=abc")
    assert 'name="q" value="old"' in html
    assert '<input type="hidden" name="risk" value="admin">' in html
    assert "abc" not in html


def test_a_filter_shows_what_is_chosen_and_how_to_clear_it() -> None:
    html = render("{% filter_menu 'Risk' 'risk' choices %}", query="risk=admin", choices=[("admin", "Admin")])
    assert "Risk: Admin" in html
    assert 'href="?">' in html


@pytest.mark.parametrize(
    ("url", "is_current"), [("/list/?view=jit", True), ("/list/?view=all", False), ("/other/?view=jit", False)]
)
def test_the_tab_that_is_shown_says_so(url: str, is_current: bool) -> None:
    assert ("aria-current" in render("{% tab 'JIT' url %}", query="view=jit", url=url)) is is_current


def test_lists_work_without_a_request() -> None:
    source = "{% qs a=1 %}{% tab 'A' '/a/' %}"
    assert engines["django"].from_string(source).render({}) == '?a=1<a href="/a/">A</a>'
