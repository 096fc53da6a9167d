"""The vocabulary of unsafe content as patterns: people, violence, self-harm, children, weapons, attacks on
computers, and the words of those who report on it or advise against it. Lower case, single blanks.
"""

from __future__ import annotations

import re

# ── people ────────────────────────────────────────────────────────────────────────────────────────────────
KIN = (
    r"(?:famil(?:y|ies)|kids?|child(?:ren)?|baby|babies|wife|husband|mother|mom|mum|father|dad|parents?|son|daughter|boys?|"
    r"girls?|brother|sister|girlfriend|boyfriend|ex|loved ones?)"
)
OFFICE = (
    r"(?:boss|manager|teachers?|neighbou?rs?|judges?|officers?|cops?|police(?:men|man)?|presidents?|mayors?|senators?|ministers?|"
    r"politicians?|journalists?|reporters?|doctors?|lawyers?|classmates?|coworkers?|colleagues?|students?|witness(?:es)?|"
    r"landlord|soldiers?|guards?|tenants?|customers?|bankers?|tourists?|cartoonists?|bosses|executives?|nurses?|priests?|imams?|rabbis?|"
    r"pastors?|bishops?|governors?|councillors?|prosecutors?|celebrit(?:y|ies)|activists?|protesters?|marchers?|strikers?|workers?|drivers?|"
    r"editors?|bloggers?|singers?|players?|referees?|coach(?:es)?|principals?|professors?|kings?|queens?|prime minister|chancellor|ambassadors?)"
)
YOUR = r"(?:your|his|her|their|my|the|that|this|those|these)(?: \w+)?"
PERSON = (
    rf"(?:you|him|her|them|everyone|everybody|anyone|someone|somebody|people|(?:all|every(?: last| single)? one|each|any|most|some|both) of (?:you|them)|you (?:all|both)|all of (?:your|his|her|their) \w+|"
    rf"{YOUR} (?:{KIN}|{OFFICE})|(?:a|every|all) {OFFICE}|myself and \w+)"
)
ENEMY = (
    r"(?:infidels?|unbelievers?|invaders?|traitors?|heretics?|immigrants?|migrants?|refugees?|foreigners?|jews?|muslims?|christians?|"
    r"hindus?|blacks?|whites?|arabs?|gays?|gypsies|kafirs?|cockroach(?:es)?|vermin|rats|parasites?|subhumans?|filth|scum|pigs|"
    r"enem(?:y|ies)|oppressors?|elites?|bastards?|believers?|non-?believers?|zionists?|communists?|liberals?|leftists?|fascists?|nazis?|"
    r"americans?|russians?|chinese|mexicans?|africans?|asians?|europeans?|turks?|kurds?|tutsis?|hutus?|homosexuals?|queers?|trans(?:gender)? people|"
    r"women|feminists?|billionaires?|landlords|snitch(?:es)?|collaborators?|apostates?|crusaders?)"
)
GROUP = (
    rf"(?:them(?: all)?|{ENEMY}|(?:the|those|these|all|every|each|such)(?: \w+){{0,2}}? (?:{ENEMY}|{OFFICE}|people|men|women|animals)|"
    r"as many (?:of \w+ )?as|(?:their )?women and children)"
)
ME = r"(?:i|we|my (?:men|people|friends|boys|brothers?|guys)|our (?:men|people|friends))"
WILL = (
    r"(?:'ll|'m| am|'re| are| is| will| shall| would| can| could| should| swear| promise)?(?: \w+){0,3}? ?"
    r"(?:will|'ll|shall|going to|gonna|coming (?:for|to)|come (?:for|to|and)|want to|wanna|have to|need to|must|ready to|about to|plan to|planning to|"
    r"decided to|hope to|would love to|should)"
)

# ── violence ──────────────────────────────────────────────────────────────────────────────────────────────
KILL = (
    r"(?:kill|murder|shoot|stab|behead|slaughter|strangle|execute|assassinate|choke|drown|lynch|gut|butcher|skin|hang|"
    r"slit|rape|torture|maim|cripple|beat|hurt|burn|poison|bury|crush|smash|punish|hunt|end|finish|destroy|attack|"
    r"chop|hack|carve|slice|dismember|decapitate|disembowel|firebomb|torch|bomb|bash|batter|bludgeon|break|snap|crack|mutilate|scald|suffocate|"
    r"smother|throttle|whip|impale|massacre|whack|waste|take out|put down|string up|gun down|cut down|mow down|blow up|rough up|run over|beat up|"
    r"finish off|do away with|get rid of|deal with|take care of)"
)
KILL_SURE = (
    r"(?:kill(?:s|ing)?|murder(?:s|ing)?|shoot(?:s|ing)?|stab(?:s|bing)?|behead(?:s|ing)?|slaughter(?:s|ing)?|strangl(?:es?|ing)|assassinat(?:es?|ing)|"
    r"lynch(?:es|ing)?|exterminat(?:es?|ing)|eradicat(?:es?|ing)|massacr(?:es?|ing)|butcher(?:s|ing)?|"
    r"strangle|firebomb(?:s|ing)?|torch(?:es|ing)?|decapitate|bludgeon|gun(?:ning)? down|mow(?:ing)? down|string(?:ing)? up)"
)
KILLED = (
    r"(?:shot|hanged|hung|killed|lynched|gassed|burn(?:ed|t)(?: alive| at the stake)?|exterminated|eradicated|beheaded|stoned|executed|slaughtered|put down|"
    r"wiped (?:out|from|off)|strung up|beaten(?: to death)?|dragged (?:out|through|into)|drowned|stabbed|murdered|castrated|tortured|whipped|purged|crushed|butchered)"
)
COMMAND = (
    r"(?:kill|murder|shoot|stab|behead|slaughter|strangle|lynch|hang|burn|gas|stone|gut|butcher|bomb|firebomb|torch|poison|execute|"
    r"wipe out|run over|run down|mow down|gun down|string up|take out|cut down|hunt down|beat up|blow up|strike|attack|rape|crush|crack|smash|set)"
)
BODY = (
    r"(?:throats?|necks?|heads?|skulls?|faces?|bones?|legs?|arms?|fingers?|kneecaps?|guts?|hearts?|spines?)"
)
WOUND = (
    rf"(?:(?:chop|hack|carve|slice|saw)(?:ping|ing)?(?: off| up| out)? (?:your|his|her|their) (?:\w+ )?\w+|put (?:you|him|her|them) (?:\w+ )?in (?:the ground|a grave|the hospital|a wheelchair|hospital|a coffin|a box)|"
    rf"send (?:you|him|her|them) to (?:hell|the (?:grave|hospital|morgue))|make sure (?:you|he|she|they) (?:stops?|never|don't|doesn't|dies?|suffers?|pays?)|(?:cut|slit|slash|break|breaking|smash|crush|snap|rip|blow|bash|cave in)(?: off| out| open)? (?:your|his|her|their|every bone in) ?(?:\w+ )?(?:{BODY}|brains?|teeth|body|off)(?: in)?|"
    rf"put(?:ting)? (?:a|two|three|some|\d+) (?:bullets?|knife|blade|rounds?)|bullet (?:in|through|into|with)|beat(?:s|ing)? (?:\w+ )?(?:\w+ )?(?:to death|until|senseless|to a pulp)|"
    rf"burn(?:ing)? (?:\w+ ){{1,4}}?(?:down|to the ground|alive)|run(?:ning)? (?:you|him|her|them|\w+ \w+) (?:over|down)|"
    rf"blow(?:ing)? (?:\w+ ){{0,3}}?(?:up|away)|set(?:ting)? (?:\w+ ){{1,4}}?on fire|tear (?:\w+ )?apart|skin (?:\w+ )?alive)"
)
PLACE = (
    r"(?:school|class(?:room)?|building|church|mosque|synagogue|temple|office|hospital|airport|station|terminal|embassy|house|home|"
    r"apartment|city|city hall|mall|train|plane|bus|courthouse|court|town|market|stadium|parade|club|shop|store|warehouse|parliament)"
)
DEAD = (
    r"(?:die|dies|be dead|bleed(?: out)?|suffer|burn|end up (?:dead|in \w+ \w+ ?\w*)|be (?:found|buried|next|killed|shot|sorry)|"
    r"not (?:live|survive|make it|see (?:\w+ ){1,3}again)|never (?:see (?:\w+ ){1,3}again|walk|wake|breathe|live|be found)|get hurt|disappear|"
    r"regret (?:this|it|that|ever|being|the day|what you)|wish you|pay for (?:this|it|that|what)|pay with (?:your|his|her) life|"
    r"lose (?:a|an|your|his|her) (?:finger|hand|arm|leg|eye|life|child|son|daughter)|be the last)"
)
WEAPON = (
    r"(?:pipe bombs?|nail bombs?|car bombs?|dirty bombs?|letter bombs?|petrol bombs?|fertili[sz]er bombs?|pressure[- ]cooker bombs?|bombs?|"
    r"explosives?|explosive (?:device|vest|charge)s?|improvised explosives?|ied|ieds|land ?mines?|"
    r"molotovs?(?: cocktails?)?|napalm|thermite|tatp|anfo|petn|rdx|c-4|semtex|detonators?|blasting caps?|nerve agents?|nerve gas|sarin|vx|ricin|"
    r"mustard gas|chlorine gas|poison gas|anthrax|botulinum(?: toxin)?|smallpox|plague bacteria|chemical weapons?|biological weapons?|bioweapons?|silencers?|suppressors?|"
    r"ghost guns?|auto[- ]sears?|(?:3d[- ]printed|home-?made|untraceable|unregistered|printed) (?:guns?|firearms?|pistols?|rifles?|weapons?)|zip guns?|grenades?|deadly poisons?)"
)
MALWARE = (
    r"(?:ransomware|malware|keyloggers?|botnets?|rootkits?|trojans?|computer virus(?:es)?|worms?|spyware|stalkerware|"
    r"phishing (?:kits?|pages?|e-?mails?|sites?|campaigns?|links?)|stealers?|credential stealers?|infostealers?|reverse shells?|backdoors?|"
    r"exploit(?:s| kits?| code)?|ddos(?: attacks?)?|denial[- ]of[- ]service attacks?|sql injections?|zero[- ]days?|fake login pages?|"
    r"stolen (?:credit )?cards?|card skimmers?|logic bombs?|remote access (?:tool|trojan)s?|crypters?|cracks? for)"
)
MAKE = (
    r"(?:mak(?:e|es|ing)|build(?:s|ing)?|construct(?:ing)?|assembl(?:e|ing)|creat(?:e|ing)|cook(?:ing)?(?: up)?|synthesi[sz](?:e|ing)|"
    r"produc(?:e|ing)|manufactur(?:e|ing)|prepar(?:e|ing)|mix(?:ing)?|print(?:ing)?|3d[- ]print(?:ing)?|mill(?:ing)?|detonat(?:e|ing)|"
    r"plant(?:ing)?|set(?:ting)? off|convert(?:ing)?|grow(?:ing)?|cultur(?:e|ing)|extract(?:ing)?|turn(?:ing)?|weaponi[sz](?:e|ing)|get hold of)"
)
CODE = (
    r"(?:writ(?:e|es|ing)|cod(?:e|ing)|build(?:s|ing)?|creat(?:e|ing)|mak(?:e|ing)|develop(?:ing)?|deploy(?:ing)?|spread(?:ing)?|program(?:ming)?|"
    r"launch(?:ing)?|install(?:ing)?|inject(?:ing)?|host(?:ing)?|run(?:ning)?|set(?:ting)? up|send(?:ing)?|us(?:e|ing)|rent(?:ing)?|plant(?:ing)?|hid(?:e|ing)|distribut(?:e|ing))"
)
HOWTO = (
    r"(?:how (?:to|you can|anyone can|do i|can i|i can|one can|we)|instructions?|recipe|guide|tutorial|steps|step[- ]by[- ]step|manual|method|"
    r"teach me|show me|tell me how|walk me through|shows? (?:you )?how|here is how|here's how|the (?:easiest|best|simplest|safest|fastest|quickest) way|"
    r"(?:detailed |exact )?plans? for|what (?:household |common )?\w+ (?:do i|can i|should i) (?:combine|mix|need|use)|(?:i|we) need (?:code|a script|a program|a tool|software) (?:that|to|which)|here(?:'s| is) how we|"
    r"(?:write|give|make|build|code|send) me (?:a|an|some|the|detailed|step)|you(?:'ll| will)? need|step (?:\d|one))"
)

HELP = r"(?:feel|want|wish|think(?:ing)?|thoughts?)(?: \w+){0,4} (?:to |about |of )?(?:die|dying|suicide|kill(?:ing)? yourself|ending)|helplines?|hotlines?|crisis line|counsell?ors?"
TECHNICAL = (
    r"(?:sub)?process(?:es)?|threads?|pipes?|file ?handles?|handles|exceptions?|modules?|kernel|daemons?|nodes?|functions?|stack|errors?|trappable|callback|"
    r"config\w*|parameters?|variables?|cluster|query|queries|loops?|iterators?|sockets?|git|commits?|tests?|builds?|cache"
)

# ── self-harm ─────────────────────────────────────────────────────────────────────────────────────────────
END_SELF = (
    r"(?:kill myself|die(?! (?:for|of|laughing|to|my|your|her|his|the|hair))|be dead|end (?:my|my own|this|it all|it|things|everything)(?: life)?|take my (?:own )?life|commit suicide|hang myself|"
    r"cut myself|hurt myself|harm myself|shoot myself|drown myself|poison myself|slit my (?:wrists?|throat)|cut my (?:wrists?|veins)|jump (?:off|in front|from)|overdose|"
    r"not (?:be|exist|live|wake up)|(?:never|not) wake up(?! (?:to|early|late|before|at))|disappear forever|stop existing|go to sleep forever)"
)
OTHER_END = r"(?:kill|hang|shoot|drown|cut|off|end|starve) (?:yourself|yourselves|your life)|jump off (?:a|the) (?:bridge|building|cliff|roof)|kys|drink bleach"

# ── children ──────────────────────────────────────────────────────────────────────────────────────────────
MINOR = (
    r"(?:child(?:ren)?|minors?|under-?age(?:d)?|pre-?teens?|toddlers?|infants?|babies|kids?|little (?:girls?|boys?|sisters?|brothers?|ones)|"
    r"young(?:er)? (?:girls?|boys?|sister|brother|daughter|son)|school ?girls?|school ?boys?|loli(?:ta)?s?|jailbait|pthc|"
    r"(?:girls?|boys?|child|kid|one|daughter|son|niece|nephew|stepdaughter|stepson)(?:,)? (?:of|aged?|is|who is) (?:about |only |just )?(?:[1-9]|1[0-7]|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen)(?! (?:hundred|thousand|cm|kg|feet|percent|the|us|our|them|many))|"
    r"very young \w+|boys|girls|"
    r"(?:[1-9]|1[0-7]) ?(?:yo|y/o|yrs?|years?)(?:[- ]olds?)?|(?:[1-9]|1[0-7]|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen)[- ]years?[- ]olds?)"
)
SEX = (
    r"(?:sex(?:ual|ually|y)?|porn(?:o|ography|ographic)?|nudes?|naked|nudity|explicit|erotic|lewd|hardcore|undress(?:ed|ing)?|topless|"
    r"without (?:\w+ )?clothes|molest(?:ing|ation|ed)?|groom(?:ing|ed)?|cp|csam|seduc(?:e|ing)|masturbat\w+|"
    r"sleep with|virgins?|uncensored|live show|strip(?:ping|tease)?|orgasm|horny|fuck(?:ing|ed)?|rape[ds]?|intimate (?:pics?|photos?|videos?)|abuse (?:images?|videos?|material)|(?:being )?touched|touch (?:him|her|them)|no limits)"
)
PICS = r"(?:pics?|pictures?|photos?|videos?|vids?|clips?|images?|material|content|collection|cams?|links?)"
GET = (
    r"(?:send(?: me)?|shar(?:e|ing)|trad(?:e|ing)|swap(?:ping)?|sell(?:s|ing)?|buy(?:ing)?|download(?:s|ing)?|look(?:ing)? (?:for|to)|"
    r"want(?:ed)?|offer(?:s|ing)?|collect(?:s|ing)?|have a|has a|got|get|meet|watch|paying|pay for|search(?:ing)? for|access to|(?:d|p)m me|message me|new link|fresh|who has|anyone (?:has|have|got)|pay|i trade|want some|ask(?:ing)? for|lovers? of|channel for|would love to|love to|photograph(?:ing)?|film(?:ing)?|lets me)"
)

REPORT = re.compile(
    r"(?<![^\W_])(?:said|says|saying|told|heard|hearing|wrote|writes?|reads?(?= [\"“])|which read|alleged(?:ly)?|accused|defendant|convicted|convict|charged with|"
    r"sentenced|jury|prosecutors?|court|trial|according to|reported(?:ly)?|reports?|journalists? (?:report|write)|news(?:paper)?|articles?|published|quoted?|"
    r"phrase|word(?:s|ing)?|sketch(?:es)?|comedy|novel|fiction(?:al)?|film|movie|documentar(?:y|ies)|song|lyrics|character|author|poem|chapter|histor(?:y|ical|ians?)|"
    r"museum|stud(?:y|ies)|research(?:ers)?|survey|statistics|victims? (?:said|told)|police (?:report|said|say)|arrested|investigat(?:e|ed|ion|ors?)|"
    r"received (?:\w+ )?threats|rated|scenes?|treaty|convention|defined|journal|sanctions|the (?:general|king|emperor) ordered|was sent from)(?![^\W_])"
)
ADVICE = re.compile(
    r"(?<![^\W_])(?:prevent(?:ion|ing|s)?|awareness|polic(?:y|ies)|prohibit(?:s|ed|ion)?|forbid(?:s|den)?|illegal(?:ly)?|unlawful|laws?|legislation|"
    r"survivors?|bereaved|hotlines?|helplines?|lifeline|counsel(?:l?ing|lors?)?|treatment|therap(?:y|ist)|risk factors|warning signs|training|train|"
    r"detect(?:ion|ing|s)?|defen[cs]e|defend(?:ing|ers)?|mitigat(?:e|ion|ing)|protect(?:ion|ing|s)?|incident(?:s| response)?|police|patch(?:es|ed)?|"
    r"vulnerabilit(?:y|ies)|antivirus (?:software|on)|security team|analysts?|dispos(?:al|e)|bomb squad|epidemiolog\w+|seek help|get help|not alone|please call|"
    r"do not|don't|never|must not|must report|offline backups|backups|update to|attackers?|criminals?|pen(?:etration)? ?testers?|red team|simulated|"
    r"patient|denies|ideation|safeguard\w*|teachers?|parents and teachers)(?![^\W_])"
)
DOES = re.compile(
    r"(?<![^\W_])(?:step \d|step one|you(?:'ll| will) need|ingredients?|materials needed|first,|next,|finally,|grams? of|carefully|"
    r"light the fuse|run away|untraceable|without getting caught|without being (?:noticed|caught|detected)|so (?:the )?(?:police|they) (?:can't|cannot)|avoid detection)"
)
