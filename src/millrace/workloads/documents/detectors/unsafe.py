"""Unsafe content, and whether a passage does harm or talks about it.

Rules tell an instruction, a threat or an intent from discussion by the grammar of the passage (who does
what to whom, an order of steps, a question how to) and by what stands around it (reports, law, prevention,
help, fiction). They read English best; what they find is evidence for a person, who has the last word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from millrace.workloads.documents.detectors.passage import Hints, Passage
from millrace.workloads.documents.document import Finding

_THEM = (
    r"(?:you|him|her|them|everyone|everybody|anyone|someone|people|"
    r"(?:all|every one|each|one|any|most|some) of (?:you|them)|"
    r"(?:your|his|her|their|my|the|that|this) (?:whole |entire |fucking )?(?:famil(?:y|ies)|kids?|child(?:ren)?|wife|husband|"
    r"mother|father|son|daughter|boss|manager|teacher|neighbou?r|judge|officer|president|mayor|senator|classmates?|"
    r"coworkers?|colleagues?|students?|ex|girlfriend|boyfriend|parents?))"
)
_HARM = r"(?:kill|murder|shoot|stab|behead|slaughter|strangle|execute|assassinate|hurt|torture|rape|beat|burn|poison|gut)"
_PLACE = r"(?:school|building|church|mosque|synagogue|temple|office|hospital|airport|station|embassy|house|home|city|mall|train|plane|courthouse)"
_WEAPON = (
    r"(?:pipe bombs?|nail bombs?|car bombs?|dirty bombs?|fertili[sz]er bombs?|pressure[- ]cooker bombs?|bombs?|"
    r"explosives?|explosive device|improvised explosive|ied\b|"
    r"molotov(?: cocktails?)?|napalm|thermite|tatp|anfo|petn|rdx|c-4|detonators?|blasting caps?|nerve agents?|sarin|ricin|"
    r"mustard gas|chlorine gas|vx gas|anthrax|botulinum toxin|chemical weapons?|biological weapons?|bioweapons?|silencers?|suppressors?|"
    r"ghost guns?|auto[- ]sears?|3d[- ]printed (?:gun|firearm|pistol)s?|untraceable (?:gun|firearm)s?|grenades?)"
)
_CYBER = (
    r"(?:ransomware|malware|keyloggers?|botnets?|rootkits?|trojans?|computer virus(?:es)?|worms?|spyware|"
    r"phishing (?:kits?|pages?|emails?|sites?|campaigns?)|"
    r"credential stealers?|infostealers?|reverse shells?|backdoors?|exploits?|ddos attacks?|denial[- ]of[- ]service attacks?|"
    r"sql injections?|zero[- ]days?|fake login pages?|stolen (?:credit )?cards?|card skimmers?)"
)
_MINOR = r"(?:child(?:ren)?|minors?|underage|under-age|pre-?teens?|toddlers?|infants?|kids?|little (?:girls?|boys?)|schoolgirls?|\d{1,2}[- ]?(?:year|yr|yo)s?[- ]?(?:old)?(?: (?:girl|boy|child|kid))?)"
_SEXUAL = r"(?:sex(?:ual|ually)?|porn(?:ography|ographic)?|nudes?|naked|explicit|erotic|molest(?:ing|ation|ed)?|groom(?:ing|ed)?|cp\b|csam|seduc(?:e|ing)|abuse (?:images?|videos?|material))"
_SELF = r"(?:kill myself|end (?:my|my own) life|end it all|take my (?:own )?life|commit suicide|hang myself|cut myself|hurt myself|harm myself|shoot myself|jump off|overdose)"


@dataclass(frozen=True, slots=True)
class Harm:
    """A rule: ``acts`` are passages that do harm, ``topic`` what is talked about."""

    type: str
    stance: str
    hints: tuple[str, ...]
    topic: re.Pattern[str]
    acts: tuple[re.Pattern[str], ...]
    weight: float = 0.9


def _rx(*patterns: str) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(rf"(?<![^\W_])(?:{pattern})(?![^\W_])") for pattern in patterns)


_MAKE = (
    r"(?:make|making|build|building|construct|constructing|assemble|assembling|create|creating|cook|synthesi[sz]e|"
    r"produce|manufacture|prepare|mix|3d[- ]print|detonate|plant|set off|convert)"
)
_CODE = (
    r"(?:write|writing|code|build|building|create|creating|make|making|develop|deploy|deploying|spread|spreading|launch|"
    r"launching|install|installing|inject|host|run|set up|send|use|buy|sell)"
)
_HARMS = (
    Harm("THREAT", "threat", ("kill", "murder", "shoot", "stab", "behead", "slaughter", "strangle", "execute",
         "assassinate", "hurt", "torture", "rape", "beat ", "burn", "poison", "gut ", "blow up", "bomb", "attack", "set fire",
         "dead", " die", "regret", "bleed", "pay for", "where you", "your back", "threat", "töten", "umbringen", "bringe",
         "erschieß", "tuer", "égorger", "abattre", "matar"), *(lambda a: (a[0], a[1:]))(_rx(
        r"death threats?|threat(?:s|en(?:s|ed|ing)?)? to (?:kill|harm|hurt)|bomb threats?|kill you|you (?:will|are going to) die",
        rf"(?:i|we)(?:'m| am|'re| are)?(?:'ll| will| shall| gonna| going to|'m gonna| want to| have to)? ?(?:gonna |going to |come and |come to |personally |just )*{_HARM} {_THEM}",
        rf"(?:i|we)(?:'ll| will|'m going to| am going to|'re going to| are going to| gonna) (?:\w+ ){{0,3}}?(?:blow up|bomb|shoot up|burn down|attack|set fire to) (?:the |your |this |that |a )?(?:\w+ )?{_PLACE}",
        r"you(?:'re| are) (?:a )?dead(?: man| woman| meat)?(?= ?[.!,]|$)",
        r"you(?:'ll| will| are going to|'re going to) (?:die|bleed|pay for this with your life|regret (?:the day )?(?:being|you were) born)",
        r"i know where you(?:r (?:kids|children|family))? (?:live|sleep|go to school|work)",
        r"watch your back",
        rf"(?:there is|i(?:'ve| have)? (?:planted|placed|put)) a bomb (?:in|at|under|on) (?:the |your )?{_PLACE}",
        r"(?:ich|wir) (?:werde|werden|bringe|bringen) (?:dich|euch|sie|ihn|alle) (?:um|umbringen|töten|erschießen)",
        r"(?:je vais|nous allons) (?:te|vous|les|le|la) (?:tuer|égorger|abattre)",
        r"(?:voy a|vamos a) (?:matarte|mataros|matarlos|matar a)",
    ))),
    Harm("VIOLENCE", "incitement", ("massacre", "behead", "lynch", "genocide", "shooting", "terror", "cleansing", "exterminat",
         "eradicate", "wipe out", "death to", "gas ", "gassed", "kill", "murder", "shoot", "shot", "hanged", "burn", "deserve",
         " die", "jihad", "holy war", "armed struggle", "race war", "stab", "slaughter", "poison", "torture", "attack"), *(lambda a: (a[0], a[1:]))(_rx(
        r"massacres?|beheadings?|lynchings?|genocide|mass shootings?|terrorist attacks?|ethnic cleansing",
        rf"(?:let's|let us|we (?:must|should|need to|have to)|you (?:must|should)|everyone should|it is time to|time to) (?:\w+ ){{0,2}}?(?:{_HARM}|exterminate|eradicate|lynch|wipe out) (?:all |every |the |these |those |them|{_THEM})",
        r"(?:(?:death to|exterminate) (?:all|every|the)|(?:gas|kill) (?:all|every)) (?:of the |the )?(?!child|sub|process|job|switch|thread|server|task|weed|germ|bacteria|bug|lights?|virus|time|mood|pain)\w+s",
        r"(?:they|these people|those people|all of them) (?:should|must|deserve to|ought to) (?:all )?(?:be (?:shot|hanged|killed|lynched|gassed|burned|exterminated)|die)",
        r"join (?:us|our|the) (?:jihad|holy war|armed struggle|race war)",
    )), weight=0.85),
    Harm("SELF_HARM", "intent", ("suicid", "self-harm", "self harm", "self-injury", "myself", "my life", "my own life", "end it all",
         "overdose", "jump off", "kill", "kys", "hang yourself", "your life", "ones life", "want to live", "be alive",
         "want to exist", "goodbye", "to die", "i die"), *(lambda a: (a[0], a[1:]))(_rx(
        r"suicid(?:e|al)|self[- ]harm(?:ing)?|self[- ]injury",
        rf"i (?:want|am going|plan|have decided|intend|am planning|need|wish|will|'m going|just want|really want)(?: to)? {_SELF}",
        rf"i(?:'m| am) (?:going to|gonna|planning to|ready to) {_SELF}",
        rf"(?:how (?:to|can i|do i|should i)|(?:best|easiest|painless|quickest|most painless) (?:way|method)s? (?:to|of)) (?:painlessly )?(?:{_SELF}|kill yourself|die|commit(?:ting)? suicide|killing (?:myself|yourself)|end (?:your|ones?) life)",
        r"(?:you should|go|just|please) (?:and )?(?:kill yourself|end your life|hang yourself)|kys",
        r"i (?:don't|do not|no longer) want to (?:live|be alive|exist)(?: any ?more)?",
        r"this is my (?:suicide note|last goodbye|final goodbye)",
    ))),
    Harm("CHILD_SAFETY", "solicitation", ("sex", "porn", "nude", "naked", "explicit", "erotic", "molest", "groom", "csam", "csem",
         "seduc", "lure", "abuse", "exploitation", "approach", " cp"), *(lambda a: (a[0], a[1:]))(_rx(
        rf"child (?:sexual )?(?:abuse|exploitation|pornography)|csam|csem|{_MINOR}[^.!?]{{0,40}}{_SEXUAL}",
        rf"(?:send|share|trade|sell|buy|selling|trading|sharing|download|looking for|want|offer|offering|have|collect|get|meet)[^.!?\n]{{0,60}}(?:{_MINOR}[^.!?\n]{{0,30}}{_SEXUAL}|{_SEXUAL}[^.!?\n]{{0,30}}{_MINOR})",
        rf"how to (?:groom|seduce|lure|approach)[^.!?\n]{{0,40}}{_MINOR}",
        rf"(?:i|we) (?:want|like|love|would like|need)[^.!?\n]{{0,30}}(?:{_SEXUAL})[^.!?\n]{{0,30}}{_MINOR}",
    )), weight=0.95),
    Harm("WEAPON_INSTRUCTIONS", "instruction", ("bomb", "explosive", " ied", "molotov", "napalm", "thermite", "tatp", "anfo", "petn",
         "rdx", "c-4", "detonator", "blasting", "nerve agent", "sarin", "ricin", " gas", "anthrax", "botulinum", "weapon",
         "silencer", "suppressor", "ghost gun", "auto-sear", "auto sear", "printed", "untraceable", "grenade", "gunpowder",
         "shrapnel", "ball bearings", "ammonium", "fuse"), *(lambda a: (a[0], a[1:]))(_rx(
        _WEAPON,
        rf"how to (?:\w+ ){{0,2}}?{_MAKE} (?:\w+[ -]){{0,4}}?{_WEAPON}",
        rf"(?:instructions|steps|guide|recipe|tutorial|manual|directions) (?:for|to|on) (?:\w+ ){{0,2}}?{_MAKE} (?:\w+[ -]){{0,4}}?{_WEAPON}",
        rf"to {_MAKE} (?:a|an|the|your|some) (?:\w+[ -]){{0,3}}?{_WEAPON},? (?:you(?:'ll| will)? need|first|start|begin|mix|take|combine|fill|pack)",
        r"(?:fill|pack|load|stuff|mix|combine|attach|connect|wire|solder|drill)[^.!?]{0,80}\b(?:fuse|gunpowder|black powder|shrapnel|ball bearings|ammonium nitrate|detonator|nails|primary explosive)",
    ))),
    Harm("CYBER_INSTRUCTIONS", "instruction", ("ransomware", "malware", "keylogger", "botnet", "rootkit", "trojan", "virus", " worm",
         "spyware", "phish", "stealer", "reverse shell", "backdoor", "exploit", "ddos", "denial", "sql injection", "zero-day",
         "zero day", "fake login", "stolen", "skimmer", "hack into", "break into", "steal", "crack", "bypass", "payload"), *(lambda a: (a[0], a[1:]))(_rx(
        _CYBER,
        rf"how to (?:\w+ ){{0,2}}?{_CODE} (?:\w+[ -]){{0,4}}?{_CYBER}",
        rf"(?:instructions|steps|guide|tutorial|manual) (?:for|to|on) (?:\w+ ){{0,2}}?{_CODE} (?:\w+[ -]){{0,4}}?{_CYBER}",
        r"how to (?:hack into|break into|steal|crack|bypass|phish)[^.!?\n]{0,40}(?:account|password|bank|wi-?fi|network|credentials?|server|card|email|authentication)s?",
        rf"(?:step \d|first|then|next|now)[,:]? (?:\w+ ){{0,3}}?{_CODE} (?:the|your|a|an) (?:\w+[ -]){{0,3}}?(?:{_CYBER}|payload)[^.!?\n]{{0,80}}(?:victims?|targets?|their|encrypt|steal|exfiltrat)",
    )), weight=0.85),
)  # fmt: skip
_TALK = re.compile(
    r"(?<![^\W_])(?:prevent(?:ion|ing|s)?|awareness|polic(?:y|ies)|prohibit(?:s|ed|ion)?|forbid(?:s|den)?|illegal(?:ly)?|unlawful|"
    r"laws?|legislation|convicted|convict|charged with|accused|alleged(?:ly)?|reported(?:ly)?|report(?:s|ing)?|news|"
    r"articles?|stud(?:y|ies)|research(?:ers)?|histor(?:y|ical|ians?)|victims?|survivors?|hotlines?|helplines?|lifeline|counsel(?:l?ing|lors?)?|"
    r"treatment|therap(?:y|ist)|risk factors|warning signs|novel|fiction(?:al)?|film|movie|documentar(?:y|ies)|training|detect(?:ion|ing|s)?|"
    r"defen[cs]e|defend(?:ing|ers)?|mitigat(?:e|ion|ing)|protect(?:ion|ing|s)?|incident(?:s| response)?|investigat(?:e|ed|ion|ors?)|"
    r"police|court|quoted?|according to|journal|museum|patch(?:es|ed)?|vulnerabilit(?:y|ies)|antivirus|security team|analysts?|"
    r"survey|statistics|dispos(?:al|e)|bomb squad|treaty|convention|sanctions|played|song|lyrics|character|author|epidemiolog\w+|"
    r"seek help|get help|do not|don't|never|must not)(?![^\W_])"
)
_DOES = re.compile(
    r"(?<![^\W_])(?:step \d|step one|you(?:'ll| will) need|ingredients?|materials needed|first,|next,|finally,|grams? of|"
    r"carefully|light the fuse|run away|untraceable|without getting caught|so (?:the )?(?:police|they) (?:can't|cannot)|avoid detection)"
)
_AROUND = 240


def detect(passage: Passage) -> Iterator[Finding]:
    """Yield what is unsafe, and what talks about it (stance ``discussion``)."""
    for harm in _HARMS:
        if not passage.has(Hints(*harm.hints)):
            continue
        acts = sorted(m.span() for act in harm.acts for m in act.finditer(passage.lower))
        done = -1
        for start, end in acts:
            if start < done:
                continue
            done = end
            yield _judge(passage, harm, start, end)
        if not acts:
            yield from _topics(passage, harm)


def _judge(passage: Passage, harm: Harm, start: int, end: int) -> Finding:
    """Weigh what stands around an act: talk about it makes it discussion, steps make it surer."""
    left, right = max(0, start - _AROUND), min(len(passage.lower), end + _AROUND)
    around = passage.lower[left:start] + " " + passage.lower[end:right]
    talk = {match[0] for match in _TALK.finditer(around)}
    does = {match[0] for match in _DOES.finditer(around)}
    quoted = passage.folded[max(0, start - 1) : start] in ('"', "'", "“", "«")
    discussed = len(talk) + quoted >= 2 + len(does)
    weight = harm.weight - 0.12 * len(talk) + 0.05 * len(does) - 0.1 * quoted
    return passage.finding(
        f"unsafe.{harm.type.lower()}", harm.type, "unsafe", start, end,
        context=", ".join(sorted(talk if discussed else does)) or None,
        stance="discussion" if discussed else harm.stance,
        weight=min(0.99, max(0.2, weight)) if not discussed else 0.3,
    )  # fmt: skip


def _topics(passage: Passage, harm: Harm) -> Iterator[Finding]:
    """Yield the first mention of a topic that nothing on the page acts out."""
    match = harm.topic.search(passage.lower)
    if match:
        yield passage.finding(f"unsafe.{harm.type.lower()}", harm.type, "unsafe", *match.span(),
                              stance="discussion", weight=0.15)  # fmt: skip
