"""Texts are cut between characters, and say what is missing."""

from hypothesis import given
from hypothesis import strategies as st

from apps.notify.transports.cutting import cut, cut_line, utf16

URL = "https://fintech.example/message/5"


def test_what_fits_stays_as_it_is():
    assert cut("a" * 100, room=100, url=URL, size=len) == "a" * 100
    assert cut_line("a" * 100, room=100, size=len) == "a" * 100


def test_what_does_not_fit_ends_with_a_line_that_says_how_much_is_missing():
    assert cut("a" * 2_000, room=100, url=URL, size=len) == "a" * 41 + f"\n… 1,959 more characters: {URL}"


def test_a_line_ends_with_a_mark():
    assert cut_line("a" * 101, room=100, size=len) == "a" * 99 + "…"


def test_an_emoji_counts_as_two_and_is_not_cut_in_half():
    assert utf16("a😀é") == 4
    assert cut_line("😀" * 51, room=100, size=utf16) == "😀" * 49 + "…"


@given(st.text(min_size=150, max_size=1_300), st.integers(100, 149))
def test_what_is_cut_has_room_and_says_the_truth(text, room):
    def size(part):
        return utf16(part.replace("<", "&lt;"))

    whole = cut(text, room=room, url=URL, size=size)
    kept, _, ending = whole.rpartition("\n… ")

    assert size(whole) <= room
    assert text.startswith(kept)
    assert ending == f"{len(text) - len(kept):,} more characters: {URL}"
    # One more character, or an ending that is two shorter, and it would have no room.
    assert size(whole) >= room - 10


@given(st.text(min_size=50, max_size=300), st.integers(1, 49))
def test_a_line_that_is_cut_has_room(line, room):
    assert utf16(cut_line(line, room=room, size=utf16)) <= room
