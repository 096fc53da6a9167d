"""Tell the language of a page: by script where the script decides, else by its commonest words.

It answers None rather than guess: under 20 letters, or where no language is clearly ahead.
"""

from __future__ import annotations

import re
from collections import Counter

_SAMPLE = 1500
_WORD = re.compile(r"[^\W\d_]+")
_SCRIPTS: tuple[tuple[str, str, str], ...] = (
    ("kana", r"\u3040-\u30ff\u31f0-\u31ff", "ja"),
    ("hangul", r"\uac00-\ud7a3\u1100-\u11ff", "ko"),
    ("han", r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff", "zh"),
    ("arabic", r"\u0600-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufefc", "ar"),
    ("hebrew", r"\u0590-\u05ff\ufb1d-\ufb4f", "he"),
    ("cyrillic", r"\u0400-\u04ff", ""),
    ("greek", r"\u0370-\u03ff\u1f00-\u1fff", "el"),
    ("thai", r"\u0e00-\u0e7f", "th"),
    ("devanagari", r"\u0900-\u097f", "hi"),
    ("bengali", r"\u0980-\u09ff", "bn"),
    ("tamil", r"\u0b80-\u0bff", "ta"),
    ("georgian", r"\u10a0-\u10ff", "ka"),
    ("armenian", r"\u0530-\u058f", "hy"),
)
_SCRIPT_PATTERNS = tuple((re.compile(f"[{chars}]"), name, code) for name, chars, code in _SCRIPTS)
_COMMON = {
    "en": "the and of to in is that for it with as was on be by this are from or have not you your we",
    "de": "der die und das ist nicht den von mit sich des auf für ein eine dem auch als wird werden sind im zu",
    "fr": "le la les des et est une dans que pour pas sur qui avec ce il au par sont vous nous du aux cette",
    "es": "el los las del una que es por con para como su se no más pero este son al está usted y la de en",
    "it": "il che di è per non una con sono della del gli le questo come anche più alla nel dei delle si",
    "pt": "não uma com para que os as do da dos das em por mais como foi é ao são pelo pela você seu",
    "nl": "het een van en is dat niet op te zijn voor met die aan ook als bij naar wordt deze om door de",
    "sv": "och att det som en är på för med av den till inte har om ett men ni vi från kan ska vid",
    "da": "og at det som en er på for med af den til ikke har om et men vi fra kan skal ved der de blev",
    "no": "og at det som en er på for med av den til ikke har om et men vi fra kan skal ved ble etter",
    "fi": "ja on ei että se oli kun mutta hän niin tai myös ovat joka kanssa sekä voi mukaan olla",
    "pl": "i w na z do się nie że jest to jak po ale od za przez przy dla oraz są który będzie tym",
    "cs": "a se na je že v s to z do i o k pro jako ale by jsou nebo který které této být při podle",
    "hu": "a az és hogy nem is egy meg van ez de csak már vagy mint ha még volt lehet amely ki kell",
    "ro": "și în de la cu nu este pe care din un o sunt pentru mai ce să au fost sau prin această",
    "tr": "ve bir bu için ile da de olarak olan çok daha gibi en sonra kadar değil ama her veya ne",
    "id": "yang dan di dengan untuk dari ini itu tidak dalam pada adalah akan oleh atau juga karena ke",
    "vi": "và của là có được cho không một các với này những đã trong người để từ khi như",
    "hr": "i je u na se da za od su s kao ne ili koji bi što nije iz po te ali biti koja",
    "ru": "и в не на что с по это как из к за от для его но или так был также при быть года",
    "uk": "і в не на що з по це як із до за від для його але або так був також при бути року та",
    "bg": "и на в да се за от не са с по като че е това или които при който към бе ще",
    "sr": "и је у на се да за од су с као не или који би што није из по те али",
    "la": "et in est non ad ut cum qui quod sed ex sit amet dolor sunt quae autem enim",
}
_OF_WORD: dict[str, list[str]] = {}
for _code, _words in _COMMON.items():
    for _word in set(_words.split()):
        _OF_WORD.setdefault(_word, []).append(_code)


def language(text: str) -> str | None:
    """Return the ISO 639-1 code of a text's language, or None where it cannot be told."""
    sample = text[:_SAMPLE]
    if not sample.isascii():
        code = _by_script(sample)
        if code:
            return code
    words = _WORD.findall(sample.lower())
    if len("".join(words)) < 20:
        return None
    scores: Counter[str] = Counter()
    for word, times in Counter(words).items():
        for code in _OF_WORD.get(word, ()):
            scores[code] += times
    if not scores:
        return None
    ranked = scores.most_common(2)
    best, count = ranked[0]
    if count < 2 or count < 0.06 * len(words):
        return None
    second = ranked[1][1] if len(ranked) > 1 else 0
    return best if count > second else None


def _by_script(sample: str) -> str | None:
    counts = {name: (len(pattern.findall(sample)), code) for pattern, name, code in _SCRIPT_PATTERNS}
    total = sum(map(str.isalpha, sample)) or 1
    kana, han = counts["kana"][0], counts["han"][0]
    if kana + han > 0.3 * total and kana > 0.05 * (kana + han):
        return "ja"
    name, (count, code) = max(counts.items(), key=lambda entry: entry[1][0])
    if count < 0.3 * total or count < 3:
        return None
    if name == "arabic":
        return "fa" if re.search("[پچژگ]", sample) else "ar"
    return code or None
