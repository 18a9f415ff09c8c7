"""What words in names of folders and files say of a design: wells, days, batches, places, controls.

The idea: one table of patterns for the words and spellings of several languages, compared without
case and accents.  A name says what it is by its word; what a bare number or letter is, its
neighbours must say (`sheet_draft`).
It fails on habits of one laboratory, which is why every guess is marked in the draft.
"""

from __future__ import annotations

import re

from islet_imaging.reading.names import plain

#: what numbers a thing: 3, 12a, B, IV
_N = r"[ _\-#=.:]*(?:\d{1,5}[a-z]?|[a-h]|i{1,3}|iv|vi{0,3})"
_WELL_WORDS = r"(?:well|loch|napf|vertiefung|kavitat|puits|pozo|pocillo|pozzetto|kuiltje)"
#: a well of a plate of 6 to 1,536: B2, B02, P24, AA01; or row and column by number
WELL = re.compile(
    rf"^{_WELL_WORDS}?[ _\-]*([a-p]|a[a-f])[ _\-]?(\d{{1,2}})$|^{_WELL_WORDS}[ _\-]*\d{{1,4}}$"
    r"|^r\d{2}c\d{2}$|^0(?:0[1-9]|1[0-6])0(?:0[1-9]|1\d|2[0-4])$"
)
_DAYS = r"(?:days?|tage?|jours?|dias?|giorn[oi]|dag(?:en)?|dzien|dni|paiva|div)"
_WEEKS = r"(?:weeks?|wks?|wochen?|semaines?|semanas?|settiman[ae]|weken)"
_HOURS = r"(?:h|hrs?|hours?|std|stunden?|heures?|horas?|or[ae]|min)"
_STAGE = r"(?:s(?:tage)?[ _\-]?\d[ _\-]?)?"
DAY = re.compile(
    rf"^{_STAGE}(?:d|{_DAYS})[ _\-]?(\d{{1,3}})(?:[.,]\d)?(?:[ _\-].*)?$"
    rf"|^\d{{1,3}}[ _\-]?(?:d|w|wks?|{_DAYS}|{_WEEKS}|{_HOURS})$"
    rf"|^(?:w|{_WEEKS})[ _\-]?\d{{1,2}}$|^t[ _\-]?\d{{1,4}}[ _\-]?(?:{_HOURS})?$"
    r"|^\u7b2c?\d{1,3}(?:\u5929|\u65e5\u76ee?)$|^stage[ _\-]?\d$"
)
#: what is done again may be one differentiation that was stained or measured again
REPEAT = re.compile(
    r"^(?:rep(?:licates?|licats?|licas?|likat|eats?|etitions?|eticion(?:es)?|etizione)?|n|r|"
    r"wiederholung|runs?|serie|br|bio(?:logical)?[ _\-]?rep(?:licate)?)" + _N + "$"
)
BATCH = re.compile(
    r"^(?:batch|diff(?:erentiation|erenzierung|erenciacion|erenziamento)?|b(?=[ _\-]?\d)|"
    r"exp(?:eriment|erience|erimento|eriencia)?s?|versuch|donors?|spender|donneur|donante|"
    r"donatore|prep(?:aration)?|lots?|lote|lotto|charge|ansatz|patient|paciente|mouse|maus|souris|"
    r"raton|topo|animal|tier|rat|subject)" + _N + "$"
)
_MONTH = (
    r"(?:jan|feb|fev|mar|mrz|apr|avr|abr|may|mai|mag|jun|juin|giu|jul|juil|lug|aug|aou|ago|sep|set|"
    r"oct|okt|ott|nov|dec|dez|dic)[a-z]*"
)
#: a date, and what follows it
DATE = re.compile(
    r"^((?:19|20)\d\d([-_.]?)(?:0?[1-9]|1[0-2])\2(?:0?[1-9]|[12]\d|3[01])"
    r"|(?:0?[1-9]|[12]\d|3[01])([-_.])(?:0?[1-9]|[12]\d|3[01])\3(?:20)?\d\d"
    r"|\d\d([-_.]?)(?:0[1-9]|1[0-2])\4(?:0[1-9]|[12]\d|3[01])"
    r"|(?:0[1-9]|[12]\d|3[01])(?:0[1-9]|1[0-2])20\d\d"
    rf"|\d{{1,2}}[-_. ]?{_MONTH}[-_. ]?(?:20)?\d\d)"
    r"(?:[t_ \-]+(\d{4,6}|\d\d[-_.:]\d\d(?:[-_.:]\d\d)?))?(?:[_ \-]+(\D.*))?$"
)
#: places within a well or slide, and what instruments call folders
PLACE = re.compile(
    r"^(?:pos(?:ition)?|site|fields?|fov|feld|champ|campo|xy|scan|tile|timepoint|zstep|s|f|p|series|"
    r"images?|bild(?:er)?|fotos?|imagen(?:es)?|img|tiffs?|tif|raw|data|default|ome|exports?|exported|"
    r"roi|region|area|view|stack|capture|snap)[ _\-]?\d*$|^\d+-pos|^tif[ _\-]exports?$"
)
#: parts of one batch that a person counts
PART = re.compile(
    r"^(?:islets?|inseln?|ilots?|islas?|islotes?|isol[ae]|organoids?|organoides?|spheroids?|"
    r"spheres?|clusters?|aggregates?|slides?|lames?|ot|objekttrager|sections?|schnitte?|coupes?|"
    r"cortes?|coverslips?|cs|chambers?|kammern?|plates?|platten?|plaques?|placas?|piastr[ae]|dish|"
    r"schalen?|tr|tech(?:nical)?[ _\-]?rep(?:licates?)?)" + _N + "$"
)
PASSAGE = re.compile(r"^(?:p|pass(?:age|aggio)?|pasaje)[ _\-]?\d{1,3}$")
#: lines of human embryonic stem cells whose names are those of wells
LINES = frozenset({"h1", "h7", "h9"})

_CTRL = r"(?:kontroll\w*|control\w*|ctrl|ctl|contr|temoin)"
_SEP = r"[\s_\-.]*"
_PRIMARY = (
    r"(?:primary|primar\w*|primair\w*|prim|1st|1er|1\u00b0|1(?:st)?[\s_\-]?ary|1[.]?[\s_\-]?ak)"
)
_ANTIBODY = r"(?:antibody|antik\w*|anticorps|anticuerpos?|anticorp[oi]|ab|ak)"
_SECONDARY = (
    r"(?:secondary|sekundar\w*|secondaire|secundari[oa]|secondari[oa]|zweit(?:antikorper|ak)|"
    r"2(?:nd)?[\s_\-]?ary|2\u00b0|2[.]?[\s_\-]?ak|2nd(?:[\s_\-]?(?:ab|only|antibody))*|"
    r"sec(?:ondary)?[\s_\-]?(?:ab|antibody)?[\s_\-]?only)"
)
#: stainings without a primary antibody, or without any
NEGATIVE = re.compile(
    rf"(?:^|[^a-z0-9])(?:{_SECONDARY}|"
    rf"(?:no|w/?o|without|minus|ohne|kein\w*|sans|sin|senza|zonder){_SEP}(?:{_PRIMARY}|"
    rf"first[\s_\-]?antibody|{_ANTIBODY})|"
    r"unstained|unst|ungefarbt|non[\s_\-]?(?:colore|marque|tenido)e?|isotype?|isotyp|igg|blank|"
    rf"neg(?:ati[vf]\w*?)?{_SEP}(?:{_CTRL}|c)|leerkontroll\w*|nullkontroll\w*"
    r")(?=$|[^a-z]|only|\d)"
    rf"|^{_CTRL}{_SEP}neg(?:ati[vf]\w*)?(?=$|[\s_\-.]*\d*$)"
)
POSITIVE = re.compile(
    rf"(?:^|[^a-z])(?:pos(?:iti[vf]\w*?)?{_SEP}{_CTRL}|{_CTRL}{_SEP}positi[vf]\w*)(?:$|[^a-z])"
)
#: "negative" that stands alone is a control; behind a marker it is a sorted population
NEG_ALONE = re.compile(r"^neg(?:ati[vf]\w*)?(?=$|[\s_\-.]*\d*$)")
NEG_WORD = re.compile(r"(?:^|[^a-z])neg(?:ati[vf][a-z]*)?(?:$|[^a-z])")
SINGLE = re.compile(
    r"(?:^|[^a-z])(?:single|einzel|simple[\s_\-]marquage)(?:[\s_\-]*(?:stain(?:ed|ing)?|farbung|"
    r"gefarbt))?(?:$|[^a-z])"
)
ONLY = re.compile(r"(?:^|[^a-z])(?:only|alone|nur|allein|solo|seul\w*|mono|ss)(?:$|[^a-z])")
#: all stains but one
ALL_BUT = re.compile(r"(?:^|[^a-z])(?:fmo|minus)(?:$|[^a-z])")
CONTROL = re.compile(
    rf"(?:^|[^a-z])(?:{_CTRL}|nc|ntc|background|peptide[\s_\-]?block\w*)(?:$|[^a-z])"
)


def kind(name: str) -> str:
    """What a folder's name says by itself: batch, repeat, date, day, well, part, place or nothing.

    Examples
    --------
    >>> [kind(n) for n in ("Spender 2", "rep1", "08.05.2023", "jour 14", "A02", "Insel 1", "Pos0")]
    ['batch', 'repeat', 'date', 'day', 'well', 'part', 'place']
    >>> kind("treated")
    ''
    """
    text = plain(name)
    for known, found in (
        ("day", DAY.match(text)), ("batch", BATCH.match(text)), ("repeat", REPEAT.match(text)),
        ("well", well(text)), ("date", DATE.match(text)), ("part", PART.match(text)),
        ("place", PLACE.match(text)), ("passage", PASSAGE.match(text)),
    ):  # fmt: skip
        if found:
            return known
    return ""


def well(text: str) -> re.Match[str] | None:
    """A well that a plate can have, its row (1) and column (2); None for other words.

    Examples
    --------
    >>> [bool(well(w)) for w in ("b02", "p24", "ab40", "p35", "well 3")]
    [True, True, True, False, True]
    """
    found = WELL.match(text)
    fits = found and 0 < int(found[2] or 1) <= (48 if len(found[1] or "") == 2 else 24)
    return found if fits else None
