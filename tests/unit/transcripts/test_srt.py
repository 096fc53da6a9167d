"""Cues: two lines, one to seven seconds, no overlap, broken where a person would break them."""

import json
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.workloads.transcripts.recognisers import Recognised, Word
from millrace.workloads.transcripts.srt import Utterance, cues, is_wide, srt, transcript, vtt

TIME = re.compile(r"(\d\d+):([0-5]\d):([0-5]\d),(\d{3})")


def spoken(text, start=0.0, pace=0.35, times=True):
    """An utterance in which every word (or wide character) takes ``pace`` seconds."""
    parts = (
        re.findall(r"[^\W\da-zA-Z'][^\w\s]*|[\w']+[^\w\s]*", text)
        if any(map(is_wide, text))
        else text.split()
    )
    words = tuple(Word(part, n * pace, (n + 1) * pace) for n, part in enumerate(parts))
    return Utterance(start, start + len(parts) * pace, Recognised(text, words if times else (), "en"))


def read_back(text):
    """The cues in an SRT file, by a reader of its own."""
    found = []
    for n, block in enumerate(text.split("\n\n") if text else [], 1):
        number, times, *lines = block.strip("\n").split("\n")
        assert int(number) == n
        start, end = (
            ((int(h) * 60 + int(m)) * 60 + int(s)) * 1000 + int(ms) for h, m, s, ms in TIME.findall(times)
        )
        assert re.fullmatch(r"\S+ --> \S+", times)
        found.append((start, end, lines))
    return found


def check(found):
    last = 0
    for start, end, lines in found:
        assert start >= last
        assert 1000 <= end - start <= 7000
        assert 1 <= len(lines) <= 2
        for line in lines:
            assert line == line.strip()
            assert line
            wide = sum(map(is_wide, line))
            assert len(line) <= 42 if not wide else wide <= 16
        last = end


def test_a_short_sentence_is_one_line_at_its_time():
    (cue,) = cues([spoken("He was not an ill disposed young man.", start=2.0)])
    assert cue.lines == ("He was not an ill disposed young man.",)
    assert (cue.start, cue.end) == (2000, 4800)


def test_long_speech_breaks_at_sentences_and_clauses():
    text = (
        "Had he married a more amiable woman, he might have been made still more respectable than he was. "
        "He might even have been made amiable himself. He was very young when he married."
    )
    found = cues([spoken(text, pace=0.25)])
    assert [" ".join(cue.lines)[-1] for cue in found] in (
        list(".,.."),
        list(",..."),
        list("..."),
        list(",.."),
    )
    check([(cue.start, cue.end, cue.lines) for cue in found])


def test_a_line_does_not_end_with_an_article():
    text = (
        "and mister john dashwood had then leisure to consider how much there might be prudently in his power"
    )
    for cue in cues([spoken(text)]):
        for line in cue.lines[:-1]:
            assert line.split()[-1] not in {"the", "a", "to", "in", "his", "of"}


def test_a_long_pause_ends_a_cue_and_a_short_one_joins_segments():
    joined = cues([spoken("one two three", 0.0), spoken("four five six", 1.2)])
    assert [cue.lines for cue in joined] == [("one two three four five six",)]
    apart = cues([spoken("one two three", 0.0), spoken("four five six", 3.0)])
    assert [cue.lines for cue in apart] == [("one two three",), ("four five six",)]


def test_a_short_word_stands_for_a_second():
    (cue,) = cues([spoken("Yes.", start=5.0)])
    assert cue.end - cue.start == 1000
    first, second = cues([spoken("Yes.", start=5.0, pace=0.1), spoken("No.", start=5.9, pace=0.1)])
    assert first.end - first.start == second.end - second.start == 1000
    assert first.end <= second.start


def test_chinese_has_sixteen_characters_a_line_and_breaks_at_its_marks():
    text = "今天天气很好，我们一起去公园散步吧。晚上还要去看电影，听说那部电影非常有意思，大家都喜欢。"
    for times in (True, False):
        found = cues([spoken(text, pace=0.2, times=times)])
        assert "".join("".join(cue.lines) for cue in found) == text
        assert all(len(line) <= 16 for cue in found for line in cue.lines)
        assert found[0].lines[-1][-1] in "，。"
        assert all(line[0] not in "，。" for cue in found for line in cue.lines)


def test_text_without_word_times_is_spread_over_its_segment():
    found = cues([spoken("a b c d e f g h i j " * 8, pace=0.2, times=False)])
    assert len(found) > 2
    assert found[0].start == 0
    assert found[-1].end == 16000
    check([(cue.start, cue.end, cue.lines) for cue in found])


def test_punctuation_of_the_text_is_kept_where_words_have_none():
    said = Recognised("Hello, world!", (Word("hello", 0.0, 0.5), Word("world", 0.5, 1.5)), "en")
    (cue,) = cues([Utterance(1.0, 3.0, said)])
    assert cue.lines == ("Hello, world!",)
    assert (cue.start, cue.end) == (1000, 2500)


def test_nothing_said_is_an_empty_file():
    assert srt(cues([])) == ""
    assert vtt(cues([])) == "WEBVTT\n"
    assert srt(cues([spoken("")])) == ""


def test_the_written_files():
    found = cues([spoken("Tom & Jerry <3", start=3661.5, pace=0.5)])
    assert srt(found) == "1\n01:01:01,500 --> 01:01:03,500\nTom & Jerry <3\n"
    assert vtt(found) == "WEBVTT\n\n01:01:01.500 --> 01:01:03.500\nTom &amp; Jerry &lt;3\n"
    data = transcript([spoken("Yes.", start=5.0)], cues([spoken("Yes.", start=5.0)]), 7.0)
    assert json.loads(json.dumps(data)) == {
        "language": "en",
        "duration": 7.0,
        "text": "Yes.",
        "segments": [
            {
                "start": 5.0,
                "end": 5.35,
                "text": "Yes.",
                "language": "en",
                "words": [{"word": "Yes.", "start": 5.0, "end": 5.35}],
            }
        ],
        "cues": [{"start": 5.0, "end": 6.0, "lines": ["Yes."]}],
    }


def test_what_would_break_the_file_is_left_out():
    found = cues([spoken("a --> b\x00c\r\n\r\nd\u2028e", times=False)])
    assert [line for _, _, lines in read_back(srt(found)) for line in lines] == ["a → b c d e"]


WORDS = st.text(st.sampled_from("abcdefgö,.!?'-你好。，한국ก\u0301"), min_size=1, max_size=60)
UTTERANCES = st.lists(
    st.tuples(
        st.floats(0, 5),
        st.lists(st.tuples(WORDS, st.floats(0, 3), st.floats(0, 12)), max_size=30),
        st.booleans(),
    ),
    max_size=8,
)


@settings(max_examples=200, deadline=None)
@given(UTTERANCES)
def test_any_speech_becomes_readable_cues_that_keep_every_letter(drawn):
    utterances, at = [], 0.0
    for pause, spoken_words, timed in drawn:
        start, words, clock = at + pause, [], 0.0
        for text, gap, length in spoken_words:
            words.append(Word(text, clock + gap, clock + gap + length))
            clock += gap + length
        text = " ".join(word.text for word in words)
        utterances.append(Utterance(start, start + clock, Recognised(text, tuple(words) if timed else ())))
        at = start + clock
    found = cues(utterances)
    check(read_back(srt(found)))
    kept = "".join("".join(line.split()) for cue in found for line in cue.lines)
    assert kept == "".join("".join(utterance.said.text.split()) for utterance in utterances)
