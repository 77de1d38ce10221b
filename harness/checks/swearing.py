"""English words that most readers take for profanity. Knows no text and no context.

Short on purpose: what is a name or an ordinary word as well (Dick, cock, prick, hell) is left out,
for a filter that stops an angry customer or a novel is switched off.
"""

from __future__ import annotations

_STRONG = """
fuck fucks fucked fucker fuckers fucking fuckin fuckface fuckhead fuckwit fuckup clusterfuck
motherfucker motherfuckers motherfucking mindfuck
shit shits shitty shitting shithead shitheads shithole shitholes shitshow bullshit bullshitting
horseshit dipshit dipshits batshit apeshit
asshole assholes arsehole arseholes asshat dumbass dumbasses jackass jackasses
bitch bitches bitchy bitching bastard bastards bellend bollocks
cunt cunts cocksucker cocksuckers dickhead dickheads douchebag douchebags knobhead knobheads
slut sluts slutty twat twats wank wanker wankers wanking whore whores
"""
_SLURS = """
faggot faggots kike kikes nigga niggas nigger niggers paki pakis raghead ragheads retard retards
tranny trannies wetback wetbacks
"""
_MILD = """
arse ass bugger crap crappy damn damned dammit goddamn goddammit piss pissed pissing turd turds
gtfo mofo stfu wtf
"""
_MILD_PHRASES = ("what the hell", "go to hell", "to hell with", "son of a gun")

STRONG: tuple[str, ...] = ("son of a bitch", "sons of bitches", *_STRONG.split(), *_SLURS.split())
MILD: tuple[str, ...] = (*_MILD_PHRASES, *_MILD.split())


def _starred() -> dict[str, list[str]]:
    """Return each way of writing a word with a run of asterisks inside, and what it stands for."""
    ways: dict[str, list[str]] = {}
    for word in (*STRONG, *MILD):
        if " " in word or len(word) < 4:  # a*b is arithmetic
            continue
        for start in range(1, len(word) - 1):
            for end in range(start + 1, len(word)):
                way = word[:start] + "*" * (end - start) + word[end:]
                ways.setdefault(way, []).append(word)
    return ways


STARRED = _starred()
