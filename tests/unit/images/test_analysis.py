"""What is said about a picture is true: colours, light, place, camera, text, and the words made of it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from millrace.errors import BadInput
from millrace.workloads.images import analysis, captions, ocr, pixels, places
from millrace.workloads.images.inspection import Inspection, inspect, what_it_is
from millrace.workloads.images.tags import Tags
from tests.unit.images import odd_files

CORPUS = Path(__file__).parents[3] / ".." / "shared" / "corpus" / "images"
LIMIT = 50_000_000


def analyse(data: bytes, name: str = "IMG_1.jpg", **options) -> analysis.Analysis:
    options.setdefault("read_text", "never")
    return analysis.analyse(data, name, max_pixels=LIMIT, **options)


def flat(colour, size=(200, 100)) -> bytes:
    return odd_files.png(Image.new("RGB", size, colour))


@pytest.mark.parametrize(
    ("colour", "name"),
    [
        ("#000", "black"), ("#fff", "white"), ("#808080", "grey"), ("#e01818", "red"), ("#f5e03c", "yellow"),
        ("#2050d0", "blue"), ("#2f9a3a", "green"), ("#f2a0b5", "pink"), ("#7a4a24", "brown"),
    ],
)  # fmt: skip
def test_colours_are_named_as_people_name_them(colour, name):
    assert list(analyse(flat(colour)).look.colours) == [name]


def test_shares_of_colours_are_those_of_the_picture():
    image = Image.new("RGB", (200, 100), "#2050d0")
    image.paste(Image.new("RGB", (60, 100), "#e01818"), (0, 0))
    look = analyse(odd_files.png(image)).look
    assert look.colours["blue"] == pytest.approx(0.7, abs=0.03)
    assert look.colours["red"] == pytest.approx(0.3, abs=0.03)
    assert not look.monochrome


def test_a_grey_picture_has_no_colours():
    found = analyse(odd_files.jpeg(odd_files.gradient((300, 200), "L")))
    assert found.look.monochrome
    assert "black and white" in found.tags.keywords


def textured(size=(600, 400), brightness=128, spread=60) -> Image.Image:
    rng = np.random.default_rng(7)
    values = rng.normal(brightness, spread, (*size[::-1], 3)).clip(0, 255).astype(np.uint8)
    return Image.fromarray(values)


def test_sharp_and_blurred_are_told_apart():
    coarse = textured((60, 40)).resize((600, 400), Image.Resampling.NEAREST)
    image = Image.blend(coarse, textured(), 0.3)
    sharp = analyse(odd_files.jpeg(image, quality=95))
    blurred = analyse(odd_files.jpeg(image.filter(ImageFilter.GaussianBlur(8)), quality=95))
    assert sharp.look.sharpness is not None
    assert blurred.look.sharpness is not None
    assert sharp.look.sharpness > 50 * blurred.look.sharpness
    assert "sharp" in sharp.tags.description
    assert "blurred" in blurred.tags.description


def test_nothing_is_said_of_the_sharpness_of_an_empty_picture():
    assert analyse(flat("#888")).look.sharpness is None


@pytest.mark.parametrize(("brightness", "said"), [(12, "dark"), (128, ""), (245, "overexposed")])
def test_exposure_is_judged(brightness, said):
    text = analyse(odd_files.jpeg(textured(brightness=brightness, spread=12))).tags.description
    assert said in text
    for other in {"dark", "overexposed"} - {said}:
        assert other not in text


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_seen_upright(orientation):
    image = Image.new("RGB", (60, 40), "#e01818")
    image.paste("#2050d0", (0, 0, 60, 10))
    turns = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    turn = turns[orientation]
    stored = image if turn is None else image.transpose(Image.Transpose(turn))
    data = odd_files.with_exif(odd_files.jpeg(stored, quality=95), odd_files.exif(orientation=orientation))
    found = analyse(data)
    assert found.facts.upright == (60, 40)
    assert found.copy.size == (60, 40)
    top, bottom = found.copy.getpixel((30, 3)), found.copy.getpixel((30, 35))
    assert top[2] > top[0]
    assert bottom[0] > bottom[2]


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus is not here")
def test_a_camera_picture_with_gps_is_placed_dated_and_credited():
    found = analyse((CORPUS / "DSCN0010.jpg").read_bytes(), "DSCN0010.jpg")
    assert found.facts.taken == datetime(2008, 10, 22, 16, 28, 39)
    assert found.facts.latitude == pytest.approx(43.467448, abs=1e-5)
    assert found.facts.longitude == pytest.approx(11.885127, abs=1e-5)
    assert found.place is not None
    assert (found.place.city, found.place.country) == ("Arezzo", "Italy")
    assert found.tags.title == "Photograph taken near Arezzo, Italy, 22 October 2008"
    assert {"Arezzo", "Tuscany", "Italy", "2008", "October", "Nikon COOLPIX P6000"} <= set(
        found.tags.keywords
    )
    assert "f/5.9" in found.tags.description


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus is not here")
def test_what_a_file_says_already_is_found_and_kept():
    found = analyse((CORPUS / "long_description.jpg").read_bytes(), "long_description.jpg")
    old = found.facts.existing.description
    assert len(old) > 100
    assert analysis.kept(found.facts.existing, found.tags).description == old


def test_the_middle_of_the_sea_is_no_place():
    assert places.nearest(-48.9, -123.4) is None
    assert places.nearest(52.52, 13.405).country == "Germany"


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("vacation-photo-1.jpg", "Vacation photo 1"),
        ("Überblick_über den Hafen.jpeg", "Überblick über den Hafen"),
        ("goldenGateBridge.png", "Golden Gate Bridge"),
        ("IMG_20230401_120000.jpg", None),
        ("DSC00042.JPG", None),
        ("PXL_20210101.jpg", None),
        ("550e8400-e29b-41d4-a716-446655440000.jpg", None),
        ("a1b2c3d4e5f6.png", None),
        ("WhatsApp Image 2021-01-01 at 10.00.00.jpeg", None),
        ("image_0.jpg", None),
        ("x.jpg", None),
    ],
)
def test_a_telling_file_name_becomes_the_title_a_made_up_one_does_not(name, title):
    found = analyse(odd_files.jpeg(), name).tags.title
    assert found == title if title else "picture" in found


def page(text: str, size: int, *, ground="white", ink="black", wide=(800, 500)) -> Image.Image:
    image = Image.new("RGB", wide, ground)
    ImageDraw.Draw(image).text((40, 60), text, fill=ink, font=ImageFont.load_default(size))
    return image


@pytest.mark.parametrize(
    "image",
    [
        page("GARDEN PARTY\nSaturday 14 June", 40),
        page("GARDEN PARTY", 40, ground="#777", ink="#ddd"),
        page("tiny words in a corner", 14),
        page("STOP", 200),
    ],
    ids=["poster", "faint", "tiny", "huge"],
)
def test_where_text_may_be_it_is_looked_for(image):
    assert pixels.may_hold_text(image)


def test_where_no_text_can_be_the_reader_is_not_troubled():
    def reader():
        raise AssertionError("called")

    soft = textured().filter(ImageFilter.GaussianBlur(3))
    for image in (soft, Image.new("RGB", (400, 300), "#357"), odd_files.gradient((400, 300))):
        assert analyse(odd_files.jpeg(image), read_text="auto", reader=reader).lines == ()


@pytest.mark.skipif(not ocr.available(), reason="RapidOCR is not installed")
def test_legible_text_is_read_and_told():
    data = odd_files.png(page("GARDEN PARTY\nSaturday 14 June", 48))
    found = analyse(data, "scan0001.png", read_text="auto", reader=ocr.load)
    assert found.tags.title == "GARDEN PARTY"
    assert "Saturday" in found.tags.description
    assert {"text", "garden", "party", "saturday"} <= set(found.tags.keywords)
    assert captions.graphic(found.facts, found.look)


def test_the_same_picture_smaller_or_recompressed_has_a_near_fingerprint_another_has_not():
    rng = np.random.default_rng(3)
    scene = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)).resize((640, 480), 3)
    other = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)).resize((640, 480), 3)
    marks = [
        analyse(data).look.fingerprint
        for data in (
            odd_files.png(scene),
            odd_files.jpeg(scene.resize((320, 240)), quality=60),
            odd_files.png(other),
        )
    ]
    assert pixels.distance(marks[0], marks[1]) <= 6
    assert pixels.distance(marks[0], marks[2]) > 12
    assert analysis.duplicates(marks, [None] * 3) == [None, 0, None]
    assert analysis.duplicates([None, None], ["a", "a"]) == [None, 0]


def test_a_person_s_words_win_over_ours_and_keywords_are_joined():
    joined = analysis.kept(Tags("Mine", "", ("own",)), Tags("Made", "Made too", ("Own", "blue")))
    assert joined == Tags("Mine", "Made too", ("own", "blue"))


@pytest.mark.parametrize("mode", ["grey16", "alpha", "palette", "one bit", "cmyk", "16-bit rgb"])
def test_every_kind_of_pixels_is_seen_as_it_is_shown(mode):
    files = {
        "grey16": (odd_files.png(Image.new("I;16", (30, 30), 0xC000)), 0xC0),
        "alpha": (odd_files.png(Image.new("RGBA", (30, 30), (0, 0, 0, 0))), 255),
        "palette": (odd_files.png(Image.new("P", (30, 30), 0)), 0),
        "one bit": (odd_files.png(Image.new("1", (30, 30), 1)), 255),
        "cmyk": (odd_files.jpeg(Image.new("CMYK", (30, 30), (0, 0, 0, 0))), 255),
        "16-bit rgb": (odd_files.sixteen_bit(), None),
    }
    data, value = files[mode]
    found = analyse(data)
    assert found.copy.mode == "RGB"
    if value is not None:
        assert found.copy.getpixel((0, 0)) == pytest.approx((value,) * 3, abs=2)


def test_dimensions_are_checked_before_anything_is_decoded():
    with pytest.raises(BadInput) as refused:
        inspect(odd_files.jpeg(odd_files.gradient((200, 100))), 19_999)
    assert refused.value.code == "too_many_pixels"
    assert "200 × 100" in refused.value.message


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"RIFF\0\0\0\0WEBPVP8 ", "WebP"),
        (b"\0\0\0\x20ftypavif", "AVIF"),
        (b"\0\0\0\x20ftypisom", "a video"),
        (b"  <svg xmlns='x'>", "SVG"),
        (b"", "empty"),
    ],
)
def test_other_formats_are_called_by_their_name(head, name):
    assert what_it_is(head) == name


def test_every_account_is_plain_json():
    import orjson

    for data in odd_files.every_odd_file().values():
        assert orjson.loads(orjson.dumps(analyse(data).to_json()))["width"] > 0


def test_shapes_are_told_by_the_upright_size():
    def shape(width, height, orientation=1):
        return captions.shape(Inspection("JPEG", width, height, 8, "rgb", orientation=orientation))

    assert shape(300, 200) == "landscape"
    assert shape(300, 200, 6) == "portrait"
    assert shape(100, 101) == "square"
    assert shape(900, 200) == "panorama"
