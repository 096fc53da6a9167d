"""What makes a passage unsafe: the words and the frames that the unsafe detector looks for.

A frame is what must stand together within a sentence or two: who does what to whom, a question how to, an
order of steps. Patterns see lower-case text with single blanks. None is a list of sentences seen before;
each is built from the vocabulary of its kind, so that it also meets wordings nobody thought of.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from millrace.workloads.documents.detectors.passage import Hints
from millrace.workloads.documents.detectors.unsafe_words import (
    CODE,
    COMMAND,
    DEAD,
    END_SELF,
    ENEMY,
    GET,
    GROUP,
    HELP,
    HOWTO,
    KILL,
    KILL_SURE,
    KILLED,
    KIN,
    MAKE,
    MALWARE,
    ME,
    MINOR,
    OFFICE,
    OTHER_END,
    PERSON,
    PICS,
    PLACE,
    SEX,
    TECHNICAL,
    WEAPON,
    WILL,
    WOUND,
    YOUR,
)


@dataclass(frozen=True, slots=True)
class Frame:
    """Patterns that must all match within ``sentences`` neighbouring sentences, and none of ``unless``."""

    needs: tuple[re.Pattern[str], ...]
    unless: re.Pattern[str] | None = None
    sentences: int = 1
    weight: float = 0.9


@dataclass(frozen=True, slots=True)
class Harm:
    """A kind of unsafe content: ``hints`` are words of which each frame needs one.

    ``stance`` is what a passage is that acts it out; ``topic`` finds mere mentions. ``quoting`` kinds are
    discussed in reports alone; the others also in advice, prevention and defence.
    """

    type: str
    stance: str
    hints: Hints
    topic: re.Pattern[str]
    frames: tuple[Frame, ...]
    quoting: bool = False


def _rx(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![^\W_])(?:{pattern})(?![^\W_])")


def _frame(*needs: str, unless: str | None = None, sentences: int = 1, weight: float = 0.9) -> Frame:
    return Frame(tuple(map(_rx, needs)), _rx(unless) if unless else None, sentences, weight)


HARMS = (
    Harm(
        "THREAT", "threat",
        Hints("kill", "murder", "shoot", "stab", "behead", "slaughter", "strangl", "execute", "assassinat", "chok", "drown",
              "lynch", "butcher", "throat", "skull", "bones", "break your", "break his", "break her", "break their",
              "breaking your", "kneecap", "bullet", "knife", "gun", "rape", "torture", "beat", "hurt", "burn", "poison", "blow",
              "bomb", "explo", "device", "goes off", "set fire", "on fire", "attack", "die", "dies", "dead", "alive",
              "coffin", "body bag", "grave", "bleed", "blood", "regret", "pay for", "pays for", "pay with", "survive",
              "never born", "be next", "chop", "hack", "carve", "firebomb", "torch", "bash", "bludgeon", "brakes", "bodies", "funeral", "wheelchair", "eating through", "smash", "every one of", "marked", "address", "your face", "your teeth", "charges", "in the ground", "pieces of", "outside your", "petrol", "come home", "scream", "rifle", "your turn", "are next", "say goodbye", "one eye open", "for good", "out of prison", "out of jail", "breathe", "breathing", "testif", "or else", "crack", "fingers", "teeth", "watch your back", "where you", "which school", "what school", "your kids",
              "last warning", "only warning", "threat", "lesson", "suffer", "hunt you", "find you", "live to see", "never see",
              "töten", "umbringen", "bringe", "erschieß", "tuer", "égorger", "abattre", "matar"),
        _rx(r"death threats?|threat(?:s|en(?:s|ed|ing)?)? to (?:kill|harm|hurt)|bomb threats?|kill you|you (?:will|are going to) die"),
        (
            _frame(rf"{ME}{WILL} (?:\w+ )?(?:\w+ )?{KILL} (?:the (?:hell|shit) out of )?{PERSON}",
                   unless=r"(?:execute|end|finish|kill) (?:this|the|that|those|these) |" + TECHNICAL + r"|(?:kill|beat|destroy|crush|hunt|finish|end|attack|hurt|punish) (?:them|you) (?:with|in|at|by) (?:kindness|chess|the (?:game|match|polls?|election|market|final))|beat (?:them|him|her|you) (?:\w+ )?(?:to it|at|in the|by)|kill the (?:time|process|job)|hang (?:you|him|her|them) (?:up|out)"),
            _frame(rf"{ME}{WILL} (?:\w+ ){{0,3}}?{WOUND}", unless=r"blow (?:up|out|away) (?:the|an?|these|those|this) (?:image|picture|photo|balloon|map|diagram|candles?|budget|competition)"),
            _frame(rf"(?:i|we) know where (?:you|{YOUR} {KIN}) (?:lives?|sleeps?|works?|parks?|go(?:es)? to school)(?= ?[.!]|$)", unless=r"thanks?|finally|map|deliver\w*|parcel", weight=0.75),
            _frame(rf"{ME}{WILL} (?:\w+ ){{0,6}}?(?:and|then) (?:\w+ )?(?:{KILL_SURE}|{WOUND}|beat|burn|stab|torture) (?:\w+ )?{PERSON}", unless=TECHNICAL + r"|deer|photos?|video|scene|film"),
            _frame(rf"{ME}(?:'m|'re| am| are)? (?:\w+ ){{0,2}}?(?:bringing|bring|going to bring|taking) (?:\w+ ){{1,3}}?(?:gun|rifle|knife|pistol|machete|bomb|weapon)s? (?:to|into) (?:\w+ )?{PLACE}"),
            _frame(rf"{ME}{WILL} (?:\w+ ){{0,3}}?(?:blow up|bomb|shoot up|burn down|attack|set fire to|storm) (?:the |your |this |that |a )?(?:\w+ )?{PLACE}"),
            _frame(rf"(?:you|he|she|they|nobody|no one|everyone|everybody|{YOUR} (?:{KIN}|{OFFICE}))(?:'ll|'re| will| won't| is| are| all)?(?: \w+){{0,2}}? ?(?:will|'ll|going to|gonna|won't|should)? {DEAD}",
                   r"you|your|warn\w*|tell \w+|alive|or|if|unless|until",
                   unless=r"(?:regret|sorry) (?:\w+ ){0,2}?(?:missing|not|if you miss)|(?:die|suffer|burn|bleed) (?:of|from|out of|laughing|for)|calories|sunburn|direct debit|invoice|subscription|per month|plants?|flowers?|fish|seeds|batter(?:y|ies)|service|" + TECHNICAL + "|" + HELP),
            _frame(r"(?:people|someone|somebody|everyone|everybody|children|hostages?|the hostages?|your \w+|innocent \w+) (?:is |are |will |'ll )?(?:going to|gonna|will|'ll|must)? ?(?:die|be killed|get (?:hurt|killed|shot)|bleed)(?= ?[.!,;]|$| if| unless| today| tonight| tomorrow)", r"or|otherwise|unless|if you|cancel|pay|stop|release|demand\w*|until", unless=r"vaccine|virus|disease|doctors?|hospital|from (?:it|the)|heat|famine|hunger|" + TECHNICAL),
            _frame(r"(?:next|last|this|a|my) (?:bullet|knife|bomb|grave|bodies|body) (?:is|will be|has|with|carries)(?: \w+){0,3} (?:yours?|his|hers?|you|name)|(?:you(?:'ve| have)|he has|she has) been marked|price on your head|we(?:'re| are) (?:watching|coming for) you", unless=r"neighbou?rhood watch|grades?|exam|attendance|santa"),
            _frame(r"(?:i(?:'ve| have)?|we(?:'ve| have)?)(?: got)? (?:\w+ ){0,2}?(?:address|photo|plates?|route|schedule)(?: \w+){0,4}", r"bat|knife|gun|pistol|matches|acid|rope|shovel|machete", r"think twice|careful|watch|court|testif\w*|police|show up|you|your", unless=r"baseball (?:team|game|club)|pickup|delivery|cricket"),
            _frame(r"(?:mail(?:ing)?|send(?:ing)?|cut(?:ting)?|post(?:ing)?) (?:you )?(?:\w+ )?(?:pieces|parts|fingers|an ear|ears|the head|heads|body parts)", rf"{YOUR} {KIN}|your|his|her|their|you", unless=r"machine|spare|jigsaw|lego|furniture|auto|car|chess"),
            _frame(r"dig(?:ging)? your own grave|(?:choke|drown) (?:on|in) (?:your|his|her|their) (?:own )?blood|(?:won't|will not|never) (?:\w+ )?(?:come|make it) home(?: from \w+)?|(?:sleep|rest|swim) with the fishes",
                   r"you|your|or|if|unless|keep", unless=r"late|delayed|train|overtime|soldier|ship"),
            _frame(r"i(?:'m| am) (?:\w+ )?(?:outside|at|near|behind|waiting (?:at|outside|by|in)|parked) (?:\w+ )?(?:your|his|her|their) (?:\w+ )?(?:house|home|door|school|office|window|car|apartment)", r"petrol|gasoline|gun|knife|rifle|axe|hammer|matches|bat|machete|acid|waiting for you|alone"),
            _frame(r"there (?:will be|is going to be|'ll be) (?:a |an |another )?(?:\w+ )?(?:shooting|bombing|massacre|bloodbath|attack|explosion)(?: \w+){0,3}", r"i will|i'll|i am|we will|holding the|on \w+day|tomorrow|tonight|don't come|stay home|mark my words"),
            _frame(r"(?:i(?:'d| would) (?:love|like)|i want|can't wait|i(?:'m| am) going) to (?:watch|see|make|hear) (?:you|him|her|them|your \w+|his \w+) (?:\w+ )?(?:die|suffer|bleed|choke|burn|scream|drown|hang|beg)(?! (?:the|a|an|for more))"),
            _frame(r"(?:if (?:you|he|she|they)|unless|or else|or|until|otherwise|before)",
                   rf"(?:(?:he|she|they|you|{YOUR} {KIN}) (?:pays? for (?:it|this)|dies|die|bleeds?|gets? (?:hurt|killed|shot)|burns?|suffers?|disappears?)|leave (?:\w+ ){{1,3}}in a (?:coffin|box|body bag)|"
                   rf"(?:we|i)(?: will|'ll)? (?:{WOUND}|{KILL_SURE} {PERSON}|find you|come for you|hunt you)|"
                   rf"{YOUR} {KIN} (?:will|gets?|is going to)|bombs? (?:\w+ ){{0,4}}(?:explodes?|goes off|will))", weight=0.88,
                   unless=r"plants?|flowers?|fish|seeds|batter(?:y|ies)|water (?:the|it|them)|crops?|bacteria|cells?|" + TECHNICAL + "|" + HELP),
            _frame(r"(?:there(?: is|'s| are)|(?:i|we)(?:'ve| have)? (?:planted|placed|put|left|hidden|hid|set)) (?:\w+ ){1,3}?(?:bombs?|devices?|explosives?|charges?)",
                   rf"in|at|under|on|inside|beneath|below|{PLACE}", r"explode|go(?:es)? off|blow|detonate|timer|bombs?|explosives?|evacuate|bodies", sentences=2),
            _frame(r"(?:bombs?|explosives?|device) (?:in|at|under|inside|on) (?:\w+ ){1,4}?(?:will|is set to|goes|is going to|'ll) (?:explode|go off|blow|detonate|off)"),
            _frame(r"watch your back|(?:you(?:'re| are)|he(?:'s| is)|she(?:'s| is)) (?:a |as good as |already )?dead(?: (?:man|woman|girl|boy|meat)(?: walking)?)?(?= ?[.!,;]|$)|dead (?:man|woman|boy|girl|men|women) walking|end up in (?:a |the )?(?:body bag|coffin|morgue|river|grave|ditch)|"
                   rf"body ?bag|bullet with your name|you(?:'ll| will| are going to|'re going to) wish you|get my hands on you|{YOUR} days are numbered|consider (?:this|yourself) (?:your |the )?(?:only |last |final |first )?warn(?:ing|ed)|"
                   r"make (?:them|you|him|her|everyone) (?:all )?(?:pay|suffer|bleed)(?! (?:for (?:the|a|an|it with)|rent|tax|bill))",
                   unless=r"back pain|posture|lifting|exercise|(?:storm|weather|flood)"),
            _frame(rf"(?:i|we)(?:'ve| have)? (?:know|knows|found(?: out)?|been to|already been|watch(?:ed|ing)?|see|saw|follow(?:ed|ing)?) (?:\w+ ){{0,2}}?(?:where|which school|what school|which bus|when|{YOUR} (?:\w+ )?(?:{KIN}|apartment|house|home|flat|place))",
                   r"watch your back|pays? for|or (?:he|she|they|you|else)|drop (?:the|your)|be (?:next|careful|sorry)|you(?:'d| had) better|kill|die|hurt|dead|visit|tonight|not safe|burn|come for", sentences=2),
            _frame(rf"(?:{YOUR} (?:{KIN}|{OFFICE})|you|he|she) (?:will be|is|are|'re|'ll be) next(?= ?[.!,;]|$)", r"family|mother|apartment|house|kill\w*|dead|die|warn\w*|kids?|wife", sentences=2),
            _frame(r"(?:someone|somebody|i|we)(?: \w+){0,2}? (?:should|ought to|needs? to|will|'ll|must) (?:teach|give|show) (?:you|him|her|them) (?:\w+ ){0,2}?lesson",
                   r"survive|forget|live|walk|die|blood|hospital|regret|hurt"),
            _frame(r"(?:will not|won't|never|wouldn't) (?:live|survive|make it|walk out|leave|get out|see)(?: \w+){0,3} ?(?:alive|to see|the (?:verdict|day|morning|weekend|year|end)|\w+day)", r"you|he|she|they|your|tell|nobody"),
            _frame(r"(?:stay away|back off|shut (?:up|your mouth)|keep (?:quiet|your mouth)|drop (?:the|your)|withdraw|resign|testif(?:y|ies)|pay (?:up|what|the|me|us)|talk to|think about (?:that|it)|one more|otherwise|or else|last chance|evacuate)",
                   rf"(?:you(?:'ll| will) be (?:eating|walking|breathing|talking|drinking|missing|picking|crying|needing|sleeping)(?: \w+){{0,5}}|brakes|count(?:ing)? bodies|funeral|accidents? (?:happen|could|can|might)|hospital|wheelchair|fingers|teeth|"
                   rf"{YOUR} {KIN}|{ME}(?:'ll| will| are going to|'m going to) (?:\w+ )?{KILL}|(?:could|might) (?:fail|burn|disappear|get hurt))",
                   r"you|your|testif\w*|bodies", sentences=2, weight=0.85,
                   unless=r"doctor|nurse|insurance|recall(?:ed)?|mechanic|service|warranty|seat ?belt|road safety|emergency|fire drill"),
            _frame(r"say goodbye to your|it(?:'s| is) (?:then )?your turn|your turn (?:is )?next|you(?:'re| are) next|your time is (?:up|coming)|tick tock|sleep with one eye open",
                   r"goodbye|dead|die|kill\w*|blood|next|warn\w*|revenge|turn|eye open|coming for", unless=r"game|queue|appointment|dance|stage|play(?:er|ing)?|headaches?|high (?:prices|bills)|stains"),
            _frame(rf"(?:takes?|will take|is going to take|'ll take) care of (?:you|him|her|them|{YOUR} {KIN})(?: \w+){{0,4}} (?:for good|permanently|once and for all)|(?:gets?|got) out of (?:prison|jail)(?: \w+){{0,8}} (?:you|your)",
                   unless=r"nurse|hospital|insurance"),
            _frame(r"(?:nobody|no one|none of you) (?:\w+ )?(?:leaves?|gets? out|walks? out|survives?)(?: \w+){0,4} alive"),
            _frame(r"(?:ich|wir) (?:werde|werden|bringe|bringen) (?:dich|euch|sie|ihn|alle) (?:um|umbringen|töten|erschießen)"),
            _frame(r"(?:je vais|nous allons) (?:te|vous|les|le|la) (?:tuer|égorger|abattre)"),
            _frame(r"(?:voy a|vamos a) (?:matarte|mataros|matarlos|matar a)"),
        ),
        quoting=True,
    ),
    Harm(
        "VIOLENCE", "incitement",
        Hints("massacre", "behead", "lynch", "genocide", "shooting", "terror", "cleans", "extermin", "eradicat", "wipe", "death to",
              "gas ", "gassed", "kill", "murder", "shoot", "shot", "hang", "burn", "deserve", " die", "dead", "jihad", "holy war",
              "armed struggle", "race war", "stab", "slaughter", "poison", "torture", "blood", "mercy", "molotov", "knives", "guns",
              "weapons", "arms", "rope", "bullet", "run them", "truck", "fire and", "strike", "put down", "has it coming", "vermin",
              "cockroach", "open season", "chamber", "firing squad", "bounty", "hunt down", "rounded up", "into the sea", "heathen", "skull", "whoever", "firebomb", "torch", "bomb", "behead", "string up", "beaten", "dragged", "torches", "petrol", "survivors", "prisoners", "final solution", "race ", "rifle", "deserve to live", "live among", "run over", "attack", "crush"),
        _rx(r"massacres?|beheadings?|lynchings?|genocide|mass shootings?|terrorist attacks?|ethnic cleansing"),
        (
            _frame(rf"(?:let's|let us|we (?:must|should|need to|have to|will|are going to)|you (?:must|should|have to)|everyone (?:should|must)|(?:it is|it's) (?:time|your duty|our duty|the duty of every \w+) to|time to|rise up and|stand up and|"
                   rf"go (?:out |in |there )?and|(?:your|our|my|the) duty (?:is )?to|join (?:us|me) (?:and|to)|brothers,?|sisters,?|patriots,?|comrades,?|go to (?:\w+ ){{1,3}}and) (?:\w+ ){{0,4}}?"
                   rf"(?:{KILL_SURE}|{WOUND}|hang|burn|gas|stone|poison|shoot|wipe out|cleanse|purge|drag|run) (?:\w+ )?(?:{GROUP}|{PERSON})",
                   unless=r"(?:kill|hang|burn|run|shoot|destroy) (?:them|it|these|those|all) (?:off|up|out|down)? ?(?:with|in) (?:vinegar|water|the oven|kindness)|process(?:es)?|plants?|weeds?|germs?|bacteria|bugs?|photos?|video|coat|curtains?|wires?"),
            Frame((re.compile(rf"(?:^|(?<=[.!?:;,] )|(?<=and )|(?<=then )|(?<=to ))(?:{COMMAND}) (?:(?:the|a|an|every|all|those|these|their|any|some|your)(?: \w+)? )?(?:{ENEMY}|{OFFICE}|{PLACE}|them all|them wherever|women and children)(?![^\W_])"),
                   re.compile(r"[!]|wherever|before they|now|today|tonight|in parliament|mercy|all|every|street|blood|on fire|teach|week|duty|patriots?|god|during|skull|them|their|rise|brothers|while")),
                  _rx(r"(?:police|soldiers?|army|gunmen?|suspects?|attackers?|he|she|they|man|men|who|which|militants?|rebels?) (?:\w+ )?(?:tried|attempted|planned|wanted|threatened|began|started|continued|ordered|managed|failed|used|came) to|plants?|weeds?|germs?|bacteria|strike (?:action|ballot)|set (?:the |a )?(?:up|record|tables?)|attack (?:the|a) (?:problem|question)|take out (?:the )?(?:trash|loan|insurance)|crack (?:a )?(?:joke|whip)|game|players? (?:who|in)|smash hit|marathon"), 1, 0.8),
            _frame(r"open season on|belongs? in (?:a |the )?(?:gas chambers?|ground|grave|camps?|oven|cemetery)|whoever (?:kills?|beheads?|shoots?|stabs?|murders?)|bounty on (?:his|her|their|the) heads?|will be rewarded (?:by god|in heaven|in paradise)|(?:holy|sacred) duty",
                   rf"{GROUP}|{ENEMY}|{OFFICE}|them|cops?|take out|kill\w*|behead\w*|stab\w*|him|her|god", unless=r"deer|hunting|season on (?:ducks?|pheasants?|trout)|museum"),
            _frame(rf"(?:we|i) (?:call (?:on|upon)|urge|order|command|ask) (?:every|all|our|each|you)(?: \w+){{0,3}} to (?:\w+ )?{COMMAND}"),
            _frame(r"(?:lock|bar|block) (?:the|their|all) (?:doors?|exits?)(?: \w+){0,6}|(?:throw|toss|hurl)(?: \w+){0,3} (?:torch(?:es)?|molotovs?|petrol bombs?|grenades?|fire)|leave no (?:survivors|one alive|witnesses)|take no prisoners|(?:ambush|bomb|raid) (?:the|their) (?:\w+ )?(?:patrol|convoy|shelter|camp|mosque|church|synagogue|station)",
                   r"torch(?:es)?|fire|burn|no survivors|no one alive|no witnesses|no prisoners|inside|shelter|molotovs?|kill\w*",
                   unless=r"(?:game|level|players?|troops|soldiers|rebels|militants|police|he|they|men) (?:\w+ )?(?:locked|threw|tossed|hurled|ambushed)|museum|film|novel"),
            _frame(r"final solution|race (?:traitors?|war)|white power|blood and soil|ethnic cleans\w+|(?:not|don't|do not|no right) (?:deserve )?to (?:live|exist) (?:among us|here|in our)|put (?:them|him|her|it) down", rf"{GROUP}|{ENEMY}|these people|those people|animals|them",
                   r"petrol|matches|tonight|begin\w*|we need|live among|put (?:them|him|her) down|rise|fight|kill|purge|now", unless=r"wannsee|holocaust|1942|nazi|museum|vet|veterinar\w*|dog|cat|horse"),
            _frame(rf"(?:afraid|hesitate|scared|shy) to (?:use (?:it|them) on|shoot|kill|pull the trigger on)(?: \w+){{0,2}} (?:{ENEMY}|{OFFICE}|them|people)"),
            _frame(rf"find (?:a|an|some|the|one) {ENEMY} and"),
            _frame(r"(?:death to|exterminate|eradicate|cleanse (?:this|our|the) \w+ (?:of|from)|let us cleanse|wiped? (?:out |off |from )(?:the|our|this)(?: face of the)? (?:earth|land|map|country|\w+))(?: \w+){0,3}",
                   rf"{ENEMY}|them|those|every|blood|fire|people|all",
                   unless=r"disease|polio|malaria|hunger|poverty|weeds?|pests?|mosquito\w*|smallpox|process|invasive|corruption|virus"),
            _frame(rf"(?:every (?:last )?one of (?:them|you|those \w+|these \w+)|(?:all|each) of (?:them|those \w+)|{ENEMY}|they|these people|those people|(?:that|this|the|those|these|all) {OFFICE}|{OFFICE} like (?:him|her|them)|(?:traitors|people|men|scum|\w+s) like (?:him|her|them|you|that)|he|she) "
                   r"(?:should|must|deserves?|needs?|ought|has|have)(?: to)? (?:all )?(?:to )?(?:be |a )?(?:(?:" + KILLED + r"|bullet|rope|noose|firing squad|to die|die)|it coming)",
                   unless=r"convicted|court|sentence[ds]?|penalty|penal|hall|in the (?:leg|arm) during|on the wall|in the museum"),
            _frame(rf"(?:all|every|these|those|the|such)(?: \w+){{0,2}}? (?:{ENEMY}|{OFFICE}|\w+(?:ists?|ers|ans|ies|ims|ews|ites))(?: in \w+)? (?:should|must|deserve to|need to|have to|ought to) (?:all )?be (?:\w+ (?:up |out )?and )?{KILLED}", unless=TECHNICAL + r"|convicted|court|sentence[ds]?|penalty|records?|batter\w*|vegetables|potatoes|flow\w*|letters|numbers|orders|containers|stickers|photos"),
            _frame(rf"(?:hunt(?:ing)? down|drive|sweep|throw|push|round up) (?:every|all|the|these|those|each)(?: \w+)? ?(?:{ENEMY}|heathens?|\w+(?:ists|ims|ews|ites))", r"into the sea|examples? of|out of (?:our|the) (?:land|country)|weapons?|kill\w*|burn\w*|time to|every|up against|shot|camps?", unless=r"police|sheriff|detectives?|prosecutors?|interpol|bounty"),
            _frame(rf"(?:someone|somebody|anyone|one of you|you) (?:should|ought to|needs to|must|please|just)?(?: just)? ?(?:{KILL_SURE}|hang|burn|{WOUND}) (?:him|her|them|(?:that|this|the|these|those) (?:\w+ )?(?:{OFFICE}|{ENEMY}|{KIN}))",
                   r"should|ought|needs|must|please|coming|deserves?"),
            _frame(r"the only good \w+ is a dead|show (?:them )?no mercy|spill (?:the |their )?blood|spill(?:ing)? the blood of|(?:take up|grab|get|pick up|bring) (?:your|our|the) (?:arms|guns?|knives|knife|weapons?|rifles?)|blood (?:will|must|shall) (?:flow|be spilled|run)",
                   rf"{ENEMY}|them|their|streets?|brothers|unbelievers|enem\w+|women|children|people|dead|mercy",
                   unless=r"(?:hunters?|hunting|museum|amnesty|buyback|hand in|kitchen|sharpen)"),
            _frame(r"(?:run|mow|plough|plow|drive) (?:them|the (?:crowd|people|protesters|marchers)|everyone)? ?(?:over|down|into (?:them|the (?:crowd|people)))", r"truck|car|van|lorry|crowd|parade|protest\w*"),
            _frame(rf"(?:hang|string) (?:them|him|her|{GROUP})(?: \w+){{0,2}} (?:from|on) (?:the |a |every )?(?:lamp ?posts?|trees?|bridges?|balcon(?:y|ies))"),
            _frame(r"join (?:us|our|the) (?:\w+ )?(?:jihad|holy war|armed struggle|race war)"),
        ),
        quoting=True,
    ),
    Harm(
        "SELF_HARM", "intent",
        Hints("suicid", "self-harm", "self harm", "self-injury", "myself", "my life", "my own life", "end it all", "end it", "end things",
              "overdose", "jump off", "jump in front", "jump from", "kill", "kys", "hang yourself", "your life", "want to live", "living",
              "be alive", "to exist", "goodbye", "farewell", "die", "dead", "be gone", "am gone", "without me", "wake up", "pills", "tablets", "rope",
              "wrist", "wrists", "cutting", "burning", "cuts", "scars", "fainting", "fasting", "pro-ana", "thinspo", "yourself",
              "finds me", "read this", "dose", "medicine", "medicines", "razor", "revolver", "gun", "train", "swallow", "bleach", "paracetamol", "worth living", "noose", "blade", "bridge"),
        _rx(r"suicid(?:e|al)|self[- ]harm(?:ing)?|self[- ]injury"),
        (
            _frame(rf"i(?:'m|'ve| am| have)? (?:\w+ ){{0,4}}?(?:want|plan|planning|going|gonna|decided|intend|need|wish|will|hope|ready|about|prefer|rather)(?: \w+){{0,5}}? (?:to |i )?(?:just )?{END_SELF}",
                   unless=r"i (?:don't|do not|never|didn't|would never) want to (?:die|kill myself|hurt myself)|from laugh\w+|alarm|retire|old|virtual|in the (?:game|level)|die (?:hard|rich|happy|old)"),
            _frame(r"(?:i'll|i will|tonight i(?:'ll| will)?) (?:\w+ ){0,2}?(?:kill myself|hang myself|slit my|cut my wrists|shoot myself|overdose|end it|be (?:gone|dead)|jump)"),
            _frame(r"by the time (?:you|anyone|they) (?:read|find|get|see)s? (?:this|me)|to who(?:m)?ever finds (?:me|my body|this)|when (?:i am|i'm) (?:dead|gone)|(?:this is )?my (?:suicide note|(?:last|final) goodbye|farewell letter|farewell note|last letter|last words)|my own (?:choice|decision) to (?:die|go|leave this)",
                   r"i|me|my", r"pills|rope|gone|dead|die|sorry|goodbye|choice|cat|dog|look after|suicide|note|love|final|last|farewell|forgive",
                   unless=r"on (?:holiday|vacation|leave)|on (?:monday|friday)|office|meeting|novel|will and testament|insurance"),
            _frame(r"(?:everyone|everybody|the world|they|you|my (?:family|kids|parents|children)) (?:would|will|'d|'ll) (?:all )?be (?:much |so |far )?better off (?:without me|if i (?:was|were) (?:dead|gone))"),
            _frame(r"(?:no reason|nothing left|no point|not? worth)(?: \w+){0,4} (?:liv(?:e|ing)|life|being alive|go(?:ing)? on)", r"i|me|my|tonight"),
            _frame(r"i (?:don't|do not|no longer|can't|cannot)(?: \w+){0,2} (?:want to (?:live|be alive|exist|be here|wake up)|live (?:like this|anymore|any more))(?: any ?more)?(?! (?:in|by|with|near|at|here|there|on|alone))"),
            _frame(r"i (?:can't|cannot) (?:\w+ ){0,3}?(?:any ?more|anymore)", r"never wake up(?! to)|end it|be (?:dead|gone)|pills|die\b", sentences=2),
            _frame(r"(?:which|what|how (?:much|many)|how)(?: \w+){0,8}", r"pills|tablets|medicines?|medication|dose|drugs|mg|paracetamol|insulin|ways?|method",
                   r"(?:kill|take out) (?:me|myself)|i (?:never|don't) wake|to die|never wake up|enough to (?:die|kill|end|not wake)|lethal|fatal|without pain|painless(?:ly)?",
                   r"i|me|my|myself|kill|die|lethal|painless\w*", unless=r"children|pets?|rats?|mice|weeds?|bacteria|overdoses? (?:are|is)|keep (?:out|away)"),
            _frame(r"(?:i(?:'ll|'m| will| am|'ve| have| want| plan| keep| wrote| think about| hope)?|my plan is)(?: \w+){0,10}",
                   r"(?:walk(?:ing)?|step(?:ping)?|jump(?:ing)?|throw myself|lie down) (?:in front of|under|off|from|on) (?:the |a )(?:[\w:]+ )?(?:train|truck|bus|lorry|tracks?|bridge|roof|cliff|car)|swallow(?:ing)? (?:everything|all|the (?:whole|pills|bottle)|my|\w+ pills)|load(?:ed)? (?:the|my|a) (?:gun|revolver|pistol|shotgun)|"
                   r"(?:razor|blade|knife) (?:under|in|to|across|every|again)|(?:tie|tied|bought|hang|have) (?:the|a|my) (?:rope|noose)",
                   r"tomorrow|tonight|done|once|letters?|goodbye|pain|every night|end|feel|sorry|alone|asleep|anymore|over|die|dead|peace",
                   unless=r"shav(?:e|ing)|beard|film|stunt|target practice|hunting|range|climb\w*|tent|sail\w*|boat"),
            _frame(r"(?:life|living|it|this|my life) (?:is|isn't|is not|'s)(?: \w+){0,2} (?:not |no longer )?worth(?: living| it)?(?= ?[.!,]| and)", r"i want out|not worth living|isn't worth living|no longer worth living|end|die|out", sentences=1, unless=r"movie|book|price|money"),
            _frame(r"(?:rope|noose|pills|gun|razor|bottle|blade|bridge|beam|tablets)", r"(?:picked|chosen|chose|ready|waiting|garage|whole bottle|all of them|written|counted|tonight|prepared)", r"i(?:'ve| have| am|'m| might| will|'ll| chose| picked| can)|my",
                   r"gone|beam|notice|miss me|goodbye|over|peace|die|dead|end|tonight|whole bottle", sentences=2, unless=r"wine|milk|shampoo|sail\w*|swing|climb\w*|shav\w*|boat"),
            _frame(r"(?:when|if|once|after) i(?:'m| am| was| were) (?:gone|dead|not (?:here|around))", r"nobody|no one|everyone|they|take|notice|miss|better|bottle|pills|rope|sorry", unless=r"holiday|vacation|will|estate|retire\w*|plants|mail"),
            _frame(r"i (?:\w+ ){0,4}?(?:cut|burn|starve)(?:,| again| myself| deeper| to feel| until)(?: \w+){0,6}|unless i cut", r"numb|stitches|feel|pain|razor|blood|deeper|scars|relief", unless=r"wood|bread|hair|finger|grass|carbs|kitchen|cooking"),
            _frame(r"(?:drowning|hanging|jumping|overdos\w+|shooting myself|cutting|bleeding out|suffocat\w+)", r"(?:painful|painless|hurt|quick(?:er|est)?|fast(?:er|est)?|easier|peaceful)", r"i (?:need|want|have) to know|before tonight|for me|should i|which|is it|i", sentences=2,
                   unless=r"swim\w*|rescue|lifeguard|plants|baskets|posters?|patients?|survivors?"),
            _frame(r"i (?:hope|wish|pray)(?: \w+){0,2} (?:i )?(?:don't|do not|never|won't|would not|wouldn't) (?:wake up|see tomorrow|live)(?! (?:to|early|late|before|at|the baby|the kids))"),
            _frame(r"how (?:many|much)(?: \w+){0,4}", r"(?:does it take|do i need|would it take|is enough|are enough|will it take|should i take)(?: \w+){0,4} (?:to )?(?:die|kill (?:me|myself|you|yourself)|never wake|end it)"),
            _frame(r"(?:go|just|please|why don't you)(?: \w+)? (?:drink bleach|play in traffic|jump|rope yourself|neck yourself|die)(?= ?[.!,]|$)", unless=r"kids|children may|rope at"),
            _frame(rf"(?:how (?:to|can i|do i|should i)|(?:best|easiest|painless|quickest|fastest|most painless) (?:way|method)s? (?:to|of)) (?:painlessly |quietly )?(?:{END_SELF}|kill yourself|commit(?:ting)? suicide|killing (?:myself|yourself)|end (?:your|ones?) life)"),
            _frame(rf"(?:you should|go|just|please|do (?:us|everyone|the world|me)(?: all)? a favou?r(?: and)?|why don't you)(?: just| and| to)? (?:{OTHER_END})|kys|kill yourself(?= ?[.!,]|$)",
                   unless=r"never|don't|do not|told|nobody should"),
            _frame(r"(?:i(?:'ve|'m| am| have)?|me|my) (?:\w+ ){0,3}?(?:cutting|burning|hurting|starving|harming)(?: myself| my (?:arms?|legs?|wrists?)| again)", r"again|deeper|tonight|myself|still|razor|blade|scars|arms?|wrists?|legs?",
                   unless=r"(?:trees?|wood|grass|carbs|sugar|calories|costs?|stopped|used to|recover\w*|clean for)"),
            _frame(r"(?:hid(?:e|ing)|cover(?:ing)?(?: up)?)(?: \w+){0,3} (?:cuts|scars|burns|self[- ]harm)|(?:eat(?:ing)? nothing|without eating|fast(?:ing)?|not eat(?:ing)?)(?: \w+){0,4} (?:days?|weeks?)(?: \w+){0,4} faint\w*|pro[- ]?ana (?:tips?|tricks?)|thinspo|tips (?:for|on|to) (?:cutting|starving|purging|hiding)",
                   unless=r"make-?up artist|surgery|dermatolog\w+|ramadan|religious|surgeon|tattoos?"),
        ),
    ),
    Harm(
        "CHILD_SAFETY", "solicitation",
        Hints("sex", "porn", "nude", "naked", "explicit", "erotic", "lewd", "hardcore", "undress", "clothes", "molest", "groom", "csam", "csem",
              "seduc", "lure", "abuse", "exploitation", "approach", "cp", "touched", "touch", "no limits", "young girls", "young boys", "secret",
              "her parents", "his parents", "preteen", "pre-teen", "underage", "schoolgirl", "schoolboy", "jailbait", "pthc", "loli", "hotel",
              "sleep with", "in bed", "daughters", "virgin", "uncensored", "live show", "webcam", "i trade", "strip", "bath", "fuck", "rape", "horny", "intimate", "without her", "without his", "without their", "topless"),
        _rx(rf"child (?:sexual )?(?:abuse|exploitation|pornography)|csam|csem|{MINOR}[^.!?]{{0,40}}{SEX}"),
        (
            _frame(GET, MINOR, SEX, sentences=2, weight=0.93,
                   unless=r"sex education|sex(?:ual)? health|consent|curriculum|vaccin\w+|toys|school books|textbooks?|report(?:ed)? (?:it|any|suspicion)|protect(?:ing|ion)?|safeguard\w+|arrest\w*|convicted|same[- ]sex|both sexes|sex of the (?:child|baby)|sex discrimination"),
            _frame(rf"{MINOR}", rf"(?:swap(?:ping)?|trad(?:e|ing)|sell(?:ing)?|collection|(?:d|p)m me|message me|privately)(?: \w+){{0,6}} ?{PICS}|{PICS}(?: \w+){{0,10}} (?:trade only|for trade|no limits|hardcore|privately|swap)", r"no limits|hardcore|trade only|privately|pre-?teens?|under-?age|young|nude|naked", sentences=2, weight=0.93),
            _frame(rf"{PICS} of (?:\w+ )?(?:{MINOR}|children|kids|boys|girls)(?: \w+){{0,3}} (?:in the (?:bath|shower)|bathing|changing|naked|undressed|sleeping)", r"trade|swap|sell|buy|pay|who has|private|dm|message me", sentences=2),
            _frame(r"(?:cp|csam|child porn\w*|pthc)", rf"{GET}|fresh|{PICS}", r"toddlers?|girls?|boys?|kids|children|preteens?|child porn\w*|csam|pthc|under-?age|young(?:er)?|pics|vids|videos?|hardcore", weight=0.93, unless=TECHNICAL + r"|copy|content provider|fs|directory|arrest\w*|convicted|possession of|police|report(?:ed|ing)?|detect\w*|hash\w*|law|offen[cs]e"),
            _frame(r"(?:our|a|this|little) secret|(?:not to|don't|do not|never) tell (?:her|his|your|their|the) (?:parents?|mum|mom|mother|dad|father)|without (?:her|his|their|the) (?:mum|mom|mother|parents?|dad|father)(?:s)? knowing|keeps? (?:quiet|it (?:a )?secret)|(?:trust|trusts) (?:you|me)|comfortable with",
                   rf"{MINOR}|her|him|girl|boy", rf"{SEX}|photo(?:s)? (?:of|without)|hotel|alone (?:with|at)|undress", sentences=2, weight=0.9,
                   unless=r"teach (?:children|kids|them)|safe touch|report|protect\w*|warning signs|surprise|birthday|doctor|dentist|vaccin\w*"),
            _frame(rf"(?:how (?:to|do (?:i|you)|can i)|(?:best|easiest) way to|tips (?:for|to|on))(?: \w+){{0,2}} (?:groom(?:ing)?|seduc(?:e|ing)|lur(?:e|ing)|molest(?:ing)?|kidnap(?:ping)?|get close to|undress|touch)(?: \w+){{0,5}} {MINOR}"),
            _frame(rf"(?:have|having|had) sex with(?: \w+){{0,2}} {MINOR}", r"where|place|how|want|anyone|anybody|i|know", unless=r"illegal|crime|convicted|arrest\w*|law|court|victims?"),
            _frame(rf"(?:she|he)(?:'s| is)(?: only| just)? (?:[5-9]|1[0-6])\b|{MINOR}", r"in bed|our bed|slept with|what we do|make love|kiss(?:ed|ing)?", r"between us|secret|nobody (?:must|should) know|don't tell|told (?:her|him)", sentences=2),
            _frame(r"(?:dads?|moms?|mothers?|fathers?|parents|families|anyone|people) (?:who|that) (?:share|trade|lend|swap|rent|sell)(?: out)?(?: \w+)? (?:daughters?|sons?|kids?|children)", unless=r"custody|holiday|car ?pool|toys|clothes|room|photos of their children online"),
            _frame(rf"{MINOR}", r"groom(?:ing)?", r"risky|risk free|safe(?:ly|st)?|caught|how (?:old|young|long)|easiest", unless=r"prevent\w*|protect\w*|signs|report|awareness|dog|pet|hair"),
            _frame(rf"(?:how (?:can|do|could|should) (?:i|we|you|one)|how to|ways? to|tricks? to) (?:get|make|convince|persuade|talk|bring)(?: \w+){{0,3}} (?:{MINOR}|(?:\w+)-year-olds?)", rf"{SEX}|undress|alone|hotel|bed|secret", unless=r"go to bed|to bed (?:early|on time)|brush|eat|homework|sleep through|play alone|doctor"),
            _frame(rf"(?:best|easiest) way to (?:get|make|convince|persuade) (?:\w+ ){{0,2}}?{MINOR}", rf"{SEX}|undress"),
            _frame(rf"(?:i|we) (?:want|like|love|would like|need)(?: \w+){{0,6}} {SEX}(?: \w+){{0,5}} {MINOR}", unless=r"education|protect\w*"),
        ),
    ),
    Harm(
        "WEAPON_INSTRUCTIONS", "instruction",
        Hints("bomb", "explosive", "ied", "molotov", "napalm", "thermite", "tatp", "anfo", "petn", "rdx", "c-4", "semtex", "detonator", "blasting",
              "nerve", "sarin", "ricin", "gas", "anthrax", "botulinum", "weapon", "bioweapon", "silencer", "suppressor", "ghost gun",
              "auto-sear", "auto sear", "full auto", "full-auto", "fully automatic", "printed", "3d print", "untraceable", "grenade", "gunpowder",
              "black powder", "powder mixture", "shrapnel", "ball bearings", "ammonium", "fuse", "petrol", "gasoline", "castor", "toxin", "spores",
              "solvent trap", "sear", "poison", "pistol", "smallpox", "mine", "acetone", "peroxide", "acid", "polystyrene", "receiver", "chemicals", "charge", "timer", "device", "blows", "nail bomb", "toxic gas", "chlorine", "rifle"),
        _rx(WEAPON),
        (
            _frame(HOWTO, rf"{MAKE}(?: \w+[,-]?){{0,7}}? {WEAPON}|{WEAPON}(?: \w+){{0,4}} {MAKE}", sentences=2,
                   unless=r"(?:detect|recogni[sz]e|report|dispose of|defuse|protect|prevent)(?: \w+){0,4}|bomb (?:calorimeter|squad|cyclone)|bath bombs?|photo ?bombs?|seed bombs?|flour bombs?|cherry bombs? recipe"),
            _frame(rf"teach me(?: how)? to {MAKE}|(?:instructions?|plans?|guide|directions|tutorial) (?:for|on|to) {MAKE}", rf"{WEAPON}"),
            _frame(r"(?:place|plant|hide|leave|put|arm|set|start|trigger)(?: \w+){0,6}", r"(?:bomb|device|explosives?|charge|timer|vest|package)", r"(?:before it (?:blows|explodes|goes off)|blows?(?: up)?|explodes?|detonat\w*|arm the (?:timer|device)|casualt\w+)", unless=r"bomb squad|eod|police|suspicious|evacuat\w*|report|circuit|microwave|oven|egg"),
            _frame(rf"you can (?:\w+ )?{MAKE}(?: \w+){{0,4}} {WEAPON}", r"recipe|at home|here|instructions|need|chemicals|ingredients|yourself", sentences=2),
            _frame(r"(?:growing|grow|culture|culturing|incubate|cultivate)(?: \w+){0,3} (?:anthrax|botulinum|plague|smallpox|ricin|bacteria)", r"yourself|order|spores|mill|dry|spread(?:ing)?|weapon\w*|release|crowd"),
            _frame(r"(?:convert(?:ing)?|turn(?:ing)?|modify(?:ing)?|make|making)(?: \w+){0,5} (?:full[- ]auto|fully automatic|automatic fire)", r"sear|file|drill|install|simple|easy|rifle|trigger",
                   unless=r"illegal|prohibit\w*|banned|washing machine|coffee"),
            _frame(r"(?:fill|pack|pour|put|place|mix|insert|load|stuff|seal|attach|wire|solder|drill|run|light|connect|combine|wrap|grind|mash|tape|screw)\b(?! (?:a |the |your )?(?:form|report))",
                   r"(?:fuse|gunpowder|black powder|powder mixture|flash powder|detonator|blasting cap|ammonium nitrate|fuel oil|ball bearings|shrapnel|primary explosive|petrol|gasoline|castor beans|primer|match heads|pipe)",
                   r"(?:seal (?:both|the) ends?|drilled hole|detonator|fuse|(?:most|maximum|more) (?:damage|casualties|injur\w+)|crowd|victims|explode|explosion|throw it|at the (?:police|cops)|rag|light it|deadly|poison|blast|ammonium nitrate)",
                   sentences=2,
                   unless=r"calorimeter|fuse ?box|electrician|firework display|kernel|file ?system|mount|model rocket|carburettor|lawn ?mower|chainsaw|engine|tank of the (?:car|tractor)|blow(?:n|s)? (?:a )?fuse|replace the fuse|circuit"),
            _frame(r"(?:combine|mix|soak|pour|filter|heat|dissolve|add|drip|boil|drill(?: out)?|mill|cut|wire|pack|put)(?! (?:the )?(?:flour|dough))",
                   r"acetone|hydrogen peroxide|nitric acid|sulph?uric acid|nitroglycerine?|polystyrene|lower receiver|80 ?% lower|crystals|charge|ammonium nitrate|chlorine|bleach and|phosphorus|potassium (?:chlorate|nitrate)",
                   r"(?:vest|explo\w+|detonat\w+|napalm|sets? it off|bombs?|nobody can trace|no serial|untraceable|crowd|subway|blast|shrapnel|into the (?:pipe|tube|vest|bottle)|on (?:the )?ice)", sentences=2,
                   unless=r"never mix|do not mix|nail polish|laboratory safety|titration|msds|ventilat\w+|extinguisher|hair|disinfect\w*"),
            _frame(r"(?:wire|connect|rig|attach|hook up)(?: \w+){0,4} (?:phone|timer|trigger|switch|clock)", r"(?:charge|bomb|explosives?|detonator|device)", r"sets? it off|call|explode|detonat\w*|goes off|trigger"),
            _frame(r"(?:solder|print|load|drop in|drop|fit|connect|attach|mount|strap|tape)(?: \w+){0,8}", rf"{WEAPON}", r"go(?:es)? off|is ready|crowd|release|clock|battery|detonator|overnight|parts kit|remote|servo|victims|people", sentences=1,
                   unless=r"(?:soldiers?|army|rebels?|militants?|forces|police|troops|terrorists?|he|they) (?:\w+ )?(?:loaded|dropped|attached|strapped|mounted|fitted)|bomb squad|eod|demining|video game"),
            _frame(rf"(?:simple|easy|quick|working|cheap|complete|full|best) (?:recipe|instructions|guide|tutorial|method|plan|blueprint)s? (?:for|to|of|on)(?: \w+){{0,3}} {WEAPON}", unless=r"bath bombs?|seed bombs?"),
            _frame(r"(?:what|which)(?: \w+){0,3} (?:chemicals|substances|gas(?:es)?|ingredients)(?: \w+){0,4}", r"(?:combine|mix|make|get|produce|need|create)", r"(?:toxic|poison(?:ous)?|deadly|lethal|nerve) gas|explo\w+|kill (?:people|everyone|as many)|napalm|bombs?", unless=r"never|avoid|not to|safety|dangerous to mix|firefighter"),
            _frame(r"(?:castor beans?|apple seeds|nightshade|cyanide|spores|toxin)", r"(?:mash|extract|solvent|distil\w*|dry|mill|grind|concentrate|isolate)", r"(?:poison|deadly|lethal|toxin|kill|spread)",
                   unless=r"antidote|toxicolog\w+|veterinar\w+|accidental|avoid|symptoms"),
            _frame(r"(?:steps|guide|how|kit|instructions|build|make|drill(?: out)?|mill|finish|complete|assemble)", r"(?:suppressor|silencer|auto[- ]sear|receiver|ghost gun|pistol|rifle)", r"(?:without (?:registering|registration|a licen[cs]e|serial)|nobody can trace|cannot be traced|can't be traced|untraceable|no serial|unregistered|off the books|solvent trap)"),
        ),
    ),
    Harm(
        "CYBER_INSTRUCTIONS", "instruction",
        Hints("ransomware", "ransom note", "malware", "keylogger", "keystroke", "botnet", "rootkit", "trojan", "virus", "worm", "spyware", "stalkerware", "phish",
              "stealer", "infostealer", "reverse shell", "backdoor", "exploit", "ddos", "denial", "sql inject", "zero-day", "zero day", "fake login", "login page",
              "stolen", "skimmer", "carding", "hack", "break into", "get into", "steal", "crack", "bypass", "payload", "brute", "dump", "dumps",
              "wifi", "wi-fi", "victim", "encrypts", "wallet", "tracker", "take over", "offline until", "offline", "blank cards", "credentials", "hashes", "pretend to be", "impersonat", "posing as", "pose as", "one-time code", "otp", "sql", "inject", "encrypt", "monero", "program that", "script that", "evil twin", "sim swap", "swap his sim", "swap her sim", "his sim", "her sim", "metasploit", "cobalt strike", "beacon", "macro", "macros", "logins", "spy on", "spies", "steals", "hijack", "rogue"),
        _rx(MALWARE),
        (
            _frame(HOWTO, rf"{CODE}(?: \w+[,-]?){{0,5}}? {MALWARE}", sentences=1,
                   unless=r"(?:detect|remove|prevent|stop|block|recogni[sz]e|report|defend|protect|scan|clean|analy[sz]e)(?: \w+){0,4}|simulated|trojan horse in|earth ?worms?|worm (?:bin|farm|compost)"),
            Frame((re.compile(rf"(?:^|(?<=[.!?:;,] )|(?<=and )|(?<=then )|(?<=step by step: ))(?:{CODE}|infect|plant|slip)(?: me)?(?: \w+[,'-]?\w*){{0,6}}? (?:{MALWARE})(?![^\W_])"),
                   _rx(r"(?:that|which|and|to|with)(?: \w+)* ?(?:spreads?|wipes?|steals?|drains?|collects?|encrypts?|hides?|harvests?|infects?|logs?|locks?|destroys?)|victims?(?:'s?)?|targets?(?:'s?)?|drain|every (?:machine|pc|computer)|looks like|their (?:\w+ )?(?:account|files|passwords|logins)|company account|without being")),
                  _rx(r"researchers?|detect\w*|remove|prevent\w*|protect\w*|awareness|simulated|red team|scanner|antivirus vendor|signatures?|incident|reported|earth ?worms?|compost"), 1, 0.88),
            _frame(r"how to (?:break into|hack(?: into)?|get into)(?: \w+){0,3} (?:network|system|server|database|account|school|bank|e-?mail|phone|wi-?fi)s?", unless=r"(?:attackers?|criminals?|hackers?) (?:know|learn)|prevent\w*|protect\w*|career|job|industry|get into (?:a |the )?(?:good |best )?school|authori[sz]ed|ethical(?:ly)?"),
            _frame(r"(?:how (?:to|do i|can i)|tutorial (?:on|for)|guide (?:to|on|for)|way to|method|tool to|want to|you can|to)(?: \w+){0,4} (?:hack(?:ing)?(?: into)?|break(?:ing)? into|get(?:ting)? into|steal(?:ing)?|crack(?:ing)?|bypass(?:ing)?|phish(?:ing)?|tak(?:e|ing) over|brute[- ]forc(?:e|ing)|spy(?:ing)? on)",
                   r"(?:someone|somebody|anyone|your (?:ex|neighbou?r|boss|wife|husband|partner|target|victim)|(?:your )?\w+'s|another person|their|his|her|other people|victims?|the target) ?(?:'s|s')?(?: \w+){0,3}|accounts?|passwords?|bank|wi-?fi|credentials?|two[- ]factor authentication|2fa|admin",
                   r"account|phone|password|wi-?fi|network|bank|traffic|e-?mail|messages|card|server|database|authentication|camera|computer",
                   unless=r"(?:attackers?|criminals?|hackers?|thieves|scammers?) (?:try|use|may|can|want|attempt|steal|could)|allows? an attacker|your own|forgot(?:ten)?|reset your|protect|so that nobody|nobody can|prevent|pen(?:etration)?[- ]?test\w*|authori[sz]ed|with permission|update|patch"),
            _frame(r"(?:without (?:them|him|her|anyone|the owner|their|your \w+)(?: \w+)? (?:knowing|noticing|consent|knowledge)|while (?:they|he|she) sleeps?|without being (?:noticed|caught|detected|seen)|without getting caught|avoid(?:ing)? detection|hid(?:e|es|ing)(?: \w+)? from (?:antivirus|the police|detection)|undetect(?:ed|able))",
                   r"(?:install|use|run|spread|send|hack|track(?:er|ing)?|read|get into|log in|access|deploy|inject|write)(?: \w+){0,6}", rf"{MALWARE}|phone|account|tracker|usb|passwords?|computer|messages|keystrokes?|wallet|server",
                   unless=r"surprise|gift|birthday"),
            _frame(r"(?:clone|copy|fake|spoof|set up)(?: \w+){0,5} (?:login|sign-?in|bank(?:'s)?|page|site|website)", r"(?:victims?|targets?|harvest|steal|capture|collect|phish\w*)", r"(?:passwords?|credentials|logins?|link|cards?|accounts?)", sentences=2,
                   unless=r"(?:criminals?|attackers?|scammers?|phishers?) (?:clone|copy|fake|set up)|never (?:type|enter|click)|be careful|recogni[sz]e|red team|simulated"),
            _frame(r"(?:compile|attach|drop|deliver|send|mail|embed|pack|run|execute|upload|enter|set|rent|use|buy|encode|wait)", r"(?:payload|ransom note|botnet|malware|ransomware|exploit|dumps|brute[- ]force|stealer|reverse shell|encrypts? (?:all|every|the) (?:\w+ )?files|backdoor)",
                   r"(?:victims?|targets?|target's|(?:your|the) wallet|until they pay|knock (?:\w+ )+offline|dump the (?:\w+ )?database|cash out|blank cards|their (?:files|passwords|data|system)|accounting department|ransom|customer database)", sentences=2,
                   unless=r"keep (?:offline )?backups?|(?:demands?|demanded) payment|law enforcement|researchers?|incident|detected|lorry|truck|freight|satellite|rocket|drone"),
            _frame(r"(?:i|we) need (?:code|a script|a program|a tool|software|someone)(?: \w+){0,2} (?:that|to|which|who)(?: \w+){0,2}", r"(?:steals?|logs?|hacks?|cracks?|grabs?|dumps?|encrypts?|spies|spy|hides?|spreads?|phish\w*|bypass\w*|ddos)", r"passwords?|cookies|keystrokes?|files|accounts?|wallets?|cards?|server|telegram|site|antivirus|phone"),
            _frame(r"how (?:can|do|could|would|should) (?:i|we|you)|how to|want to|ways? to|need to", r"(?:hack(?: into)?|spy on|log into|get into|break into|steal|clone|hijack|take over)",
                   r"(?:my|his|her|their|your|the|a|someone's|somebody's|another)(?: \w+'s?)?(?: \w+)? ?(?:instagram|facebook|whatsapp|snapchat|gmail|e-?mail|icloud|phone|account|wi-?fi|router|camera|bank account|sim|passwords?|crypto|wallet)",
                   unless=r"how (?:can|do) (?:hackers|attackers|criminals)|protect|prevent|was hacked|been hacked|got hacked|back into my|my own|locked out|forgot|stop (?:someone|people|them|hackers)"),
            _frame(r"(?:evil twin|sim[- ]?swap(?:ping)?|swap (?:his|her|their|the (?:target|victim)'s) sim|rogue access point|card(?:ing)? forum|phishing kit|rubber ducky|metasploit|cobalt strike|beacon|macro(?:s)?(?: document)?|keylogger|captive portal)",
                   r"(?:capture|harvest|steal|empty|own|enables? (?:content|macros)|phones home|get a shell|shell on|reset|drain|log(?:s|ins)?|take over|run it|pretend(?:ing)?)",
                   r"(?:their|his|her|the (?:guests?|domain|wallet|victim|target|network)|logins?|passwords?|wallet|target(?:'s)?|network|domain)", sentences=2,
                   unless=r"(?:attackers?|criminals?|hackers?|scammers?) (?:use|set up|may|can|try|often)|detect\w*|block\w*|disable macros|protect|defen[cs]e|authori[sz]ed|pen(?:etration)?[- ]?test\w*|lab exercise|beware"),
            _frame(r"(?:write|make|build|code|create|give me|send me)(?: me)? (?:a|an|some|the) (?:\w+ ){0,2}?(?:program|script|tool|app|virus|code|macro|bot|page)(?: \w+)? (?:that|which|to)", r"(?:encrypts?|steals?|deletes?|wipes?|locks?|logs?|infects?|spreads?|hijacks?|spies|floods?|crashes|copies)",
                   r"victim(?:'s|s)?|target(?:'s|s)?|payment|ransom|monero|bitcoin|passwords?|without (?:them|him|her)|other people|their (?:files|disk|data|computer)|every (?:pc|computer)|keystrokes?"),
            _frame(r"(?:working|private|fresh|new|unpatched|here is an?|here's an?)(?: \w+){0,2} (?:exploit|zero[- ]day|0day|rce)", r"(?:dump|crack|own|pop|shell|get in|take over|run it|download)", r"their|his|her|hashes|victims?|targets?|server|vpn|network", unless=r"patch|researchers?|disclos\w*|bounty|advisory"),
            _frame(r"(?:pretend(?:ing)? to be|pose as|posing as|impersonat(?:e|ing)|call(?:ing)? (?:as|from))", r"(?:one[- ]time code|otp|pin|passwords?|remote access|gift cards?|verification code|card number|account details)", r"(?:talk|get|trick|convince|persuade|make|ask) (?:the|her|him|them|your)|read(?:ing)? (?:out )?|until (?:she|he|they)|victim", unless=r"(?:scammers?|criminals?|fraudsters?|callers?|thieves|they) (?:\w+ )?(?:pretend|pose|impersonat|call)|beware|never|bank will|warn\w*"),
            _frame(r"(?:inject|enter|paste|type|insert|use) (?:this|the following|my|our) (?:\w+ )?(?:sql|script|payload|code|xss|command|string)", r"(?:you can|to|then|and) (?:\w+ )?(?:download|dump|read|steal|get|see|extract|bypass|log in)", r"everybody'?s?|all (?:the )?(?:users|customers|accounts|passwords)|credit cards|passwords?|accounts?|database|other users|admin", unless=r"prepared statements|sanitis?z?e|lab|exercise|test environment|ctf|your own"),
            _frame(r"(?:knock|take|bring)(?: \w+){1,3} (?:offline|down)", r"(?:botnet|ddos|packets|until they pay|ransom|booter|stresser)"),
            _frame(r"(?:carding|cash(?:ing)? out|buy dumps|cvvs?|fullz|skimm(?:er|ing))", r"(?:guide|tutorial|how|buy|encode|blank cards|atm|dumps)", r"(?:cards?|dumps|atm|cash out)", unless=r"police|arrest\w*|bank warns|customers|protect|wool|cotton"),
            _frame(r"(?:step \d|first|then|next|now)[,:]? (?:\w+ ){0,3}?" + CODE + r" (?:the|your|a|an) (?:\w+[ -]){0,3}?(?:" + MALWARE + r"|payload)", r"victims?|targets?|their|encrypt\w*|steal|exfiltrat\w*|spread\w*", sentences=2),
        ),
    ),
)  # fmt: skip
