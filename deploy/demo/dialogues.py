"""Synthetic dialogues in which people tell an assistant facts and ask for them later.

This module is the whole data set of the demo model: `train` draws endless dialogues from it and
writes `questions.jsonl` with it. Nothing is read from outside, and a seed fixes every dialogue.

How it works. A `Dialogue` keeps what has been told, as a map from (owner, kind) to `Fact`, and
grows one turn at a time: somebody tells facts, asks for one, or makes small talk. The owner is the
user or a person of the user's life; the kind (city, dog, favourite food, ...) has many phrasings
for telling and asking, and exactly one sentence for the assistant: it says that sentence both when
it is told the fact and when it is asked for it. The newest telling counts.

Held-out rule. A pair (owner's name, value) is held out when its hash is divisible by five.
Training dialogues avoid held-out pairs, and every question of the evaluation is about one, so no
answer can have been learnt by heart. Words made up from syllables obey the rule by themselves.
Outside the rule are the user's own name, which has no partner; seasons, of which there are too few
to choose from and which the evaluation leaves out; and training dialogues typed wholly in lower
case, whose words are other tokens than those of the evaluation.
"""

from __future__ import annotations

import random
import re
import zlib
from dataclasses import dataclass, field

HELD_OUT_ONE_IN = 5
UNKNOWN = "I don't know that yet."
SUMMARY_SENTENCES_MAX = 5


def held_out(*words: str) -> bool:
    """Whether this combination belongs to the evaluation and is never trained on."""
    return zlib.crc32("|".join(words).lower().encode()) % HELD_OUT_ONE_IN == 0


# ---------------------------------------------------------------------------------- word lists

FEMALE = """Mara Ines Ana Lucia Sofia Emma Olivia Julia Clara Nora Lena Maria Elena Laura Sara Alice
Chloe Zoe Lily Grace Hannah Ruth Eva Ida Freya Ingrid Astrid Greta Heidi Paula Rosa Carmen Teresa
Beatriz Yuki Aiko Mei Priya Anita Leila Fatima Amina Zara Nadia Olga Irina Vera Tanya Katya Daria
Petra Marta Hana Eszter Ilona Simone Camille Margot Claire Jeanne Fiona Moira Siobhan Bridget
Gwen Megan Rhian Kate Jane Lucy Sarah Susan Linda Karen Anna Mary Helen Diana Ella Mia Amelia Ava
Isabella Charlotte Emily Naomi Judith Miriam Esther Iris Violet Hazel Stella""".split()

MALE = """Tom Ben Max Paul Peter Jan Lars Sven Erik Olaf Nils Finn Jonas Lukas Felix Oscar Hugo Leo
Theo Noah Liam Ethan Jack Harry George Henry Arthur Edward James John Robert David Daniel Samuel
Adam Simon Mark Luke Matthew Andrew Philip Martin Victor Ivan Boris Dmitri Pavel Tomas Milan Marek
Karel Istvan Andrei Mihai Carlos Pedro Miguel Diego Rafael Pablo Javier Luis Mateo Bruno Marco Luca
Paolo Enzo Dario Fabio Kenji Hiro Taro Wei Jin Raj Arjun Vikram Omar Hassan Ali Yusuf Karim Samir
Kofi Kwame Tunde Sean Patrick Owen Rhys Ian Colin Gavin Ralph Walter Otto Emil Anton""".split()

CITIES = """Porto|Lisbon|Madrid|Seville|Valencia|Barcelona|Paris|Lyon|Nice|Bordeaux|Lille|
Marseille|London|Leeds|Bristol|York|Oxford|Cambridge|Manchester|Liverpool|Glasgow|Edinburgh|
Cardiff|Belfast|Dublin|Cork|Galway|Berlin|Hamburg|Munich|Cologne|Dresden|Leipzig|Bremen|Vienna|
Graz|Salzburg|Zurich|Basel|Bern|Geneva|Milan|Turin|Rome|Naples|Venice|Bologna|Florence|Palermo|
Athens|Sofia|Bucharest|Budapest|Prague|Brno|Warsaw|Krakow|Gdansk|Vilnius|Riga|Tallinn|Helsinki|
Tampere|Turku|Stockholm|Malmo|Oslo|Bergen|Copenhagen|Aarhus|Reykjavik|Amsterdam|Utrecht|
Rotterdam|Brussels|Ghent|Antwerp|Bruges|Istanbul|Ankara|Cairo|Tunis|Nairobi|Lagos|Accra|Dakar|
Mumbai|Delhi|Chennai|Tokyo|Osaka|Kyoto|Seoul|Busan|Beijing|Shanghai|Hanoi|Bangkok|Singapore|
Manila|Jakarta|Sydney|Melbourne|Perth|Auckland|Boston|Chicago|Seattle|Denver|Austin|Portland|
New York|San Diego|Toronto|Montreal|Vancouver|Lima|Bogota|Santiago|Buenos Aires|Montevideo|
Havana|Mexico City"""

COUNTRIES = """Portugal|Spain|France|Italy|Germany|Austria|Switzerland|Poland|Hungary|Romania|
Bulgaria|Greece|Turkey|Egypt|Kenya|Ghana|Nigeria|Morocco|India|China|Japan|Korea|Vietnam|
Thailand|Indonesia|Australia|New Zealand|Canada|Mexico|Brazil|Argentina|Chile|Peru|Colombia|
Cuba|Ireland|Scotland|Wales|England|Norway|Sweden|Finland|Denmark|Iceland|Estonia|Latvia|
Lithuania|Belgium|Ukraine|Croatia"""

JOBS = """a nurse|a teacher|a doctor|a baker|a carpenter|a plumber|an electrician|an engineer|
a pilot|a painter|a photographer|a journalist|a lawyer|a judge|a farmer|a gardener|a florist|
a chef|a waiter|a barista|a butcher|a tailor|a mechanic|a driver|a sailor|a soldier|
a firefighter|a police officer|a dentist|a surgeon|a pharmacist|a vet|a biologist|a chemist|
a physicist|a historian|a librarian|an architect|a designer|a programmer|a writer|an editor|
a translator|an actor|a musician|a dancer|a singer|an accountant|a banker|a cashier|a secretary|
a manager|a consultant|a scientist|a student|a professor|a cleaner|a postman|a hairdresser|
a blacksmith|a potter|a beekeeper|a software engineer|a bus driver|a tour guide"""

WORKPLACES = """the hospital|the library|the airport|the museum|the theatre|the zoo|the bank|
the bakery|the university|the post office|the town hall|the railway|a school|a hotel|
a restaurant|a factory|a farm|a bookshop|a law firm|a newspaper|a pharmacy|a supermarket|
a brewery|a garage|a clinic|Siemens|Nokia|Philips|Airbus|Bosch|Volvo|Lego|Shell|Sony|Google|
Amazon|Microsoft"""

SUBJECTS = """biology|chemistry|physics|mathematics|history|law|medicine|economics|philosophy|
psychology|geography|geology|astronomy|architecture|music|art|literature|linguistics|
engineering|computer science|nursing|theology|politics|statistics|archaeology"""

FOODS = """pizza|pasta|lasagne|risotto|sushi|ramen|curry|paella|tacos|burritos|pancakes|waffles|
dumplings|goulash|pierogi|soup|salad|steak|fish and chips|burgers|falafel|hummus|couscous|kebab|
moussaka|ravioli|gnocchi|noodles|fried rice|porridge|omelette|quiche|cheese|bread|chocolate|
ice cream|apple pie|cake|cookies|strawberries|cherries|mangoes|bananas|potatoes|mushrooms|
asparagus|spinach|salmon|roast chicken|meatballs|sausages|schnitzel|fondue|tiramisu|cheesecake|
carbonara|kimchi|tofu|lentils"""

DRINKS = """coffee|tea|green tea|water|milk|cocoa|hot chocolate|lemonade|orange juice|
apple juice|beer|red wine|white wine|cider|whisky|cola|espresso|ginger ale|iced tea|mint tea"""

COLOURS = """red|blue|green|yellow|orange|purple|pink|black|white|grey|brown|turquoise|violet|
gold|silver|crimson|beige|teal|indigo|navy blue|dark green|sky blue"""

ANIMALS = """elephant|lion|tiger|wolf|fox|bear|owl|eagle|penguin|dolphin|whale|otter|badger|
hedgehog|deer|giraffe|zebra|panda|koala|kangaroo|squirrel|octopus|octopus|seal|raven|swan|lynx|
camel|sloth|hippo"""

MUSIC = """jazz|blues|rock|folk|opera|techno|reggae|hip hop|soul|punk|metal|country|
classical music|pop|flamenco|fado|swing|gospel|salsa|disco"""

SPORTS = """tennis|football|basketball|volleyball|rugby|cricket|hockey|golf|badminton|handball|
judo|boxing|fencing|rowing|surfing|skiing|baseball|table tennis|athletics|water polo"""

SEASONS = "spring|summer|autumn|winter"

HOBBIES = """painting|drawing|knitting|sewing|gardening|cooking|baking|fishing|hiking|climbing|
running|cycling|swimming|sailing|skating|dancing|singing|reading|writing|photography|pottery|
chess|yoga|camping|birdwatching|stargazing|juggling|origami|woodworking|embroidery|kayaking|
diving|archery|horse riding|collecting stamps|collecting coins|model trains|board games|
video games|crossword puzzles|calligraphy|beekeeping|karate|bowling|snowboarding"""

INSTRUMENTS = """the piano|the violin|the cello|the guitar|the flute|the clarinet|the trumpet|
the drums|the harp|the saxophone|the oboe|the accordion|the banjo|the ukulele|the organ|
the trombone|the viola|the bass|the mandolin|the harmonica|the bagpipes|the tuba"""

LANGUAGES = """Portuguese|Spanish|French|Italian|German|Dutch|Polish|Czech|Hungarian|Romanian|Greek|
Turkish|Arabic|Hebrew|Hindi|Tamil|Chinese|Japanese|Korean|Vietnamese|Thai|Swedish|Norwegian|Danish|
Finnish|Icelandic|Estonian|Russian|Ukrainian|Welsh|Irish|Latin|Swahili"""

ALLERGIES = """peanuts|nuts|milk|eggs|shellfish|wheat|soy|pollen|dust|cats|dogs|bees|penicillin|
latex|strawberries|gluten|sesame|fish|wool|mustard"""

CARS = """a Volvo|a Fiat|a Toyota|a Honda|a Ford|a Renault|a Peugeot|a Skoda|a Tesla|an Audi|
a Mazda|a Subaru|a Mini|a Volkswagen|a BMW|a Mercedes|a Jeep|a Seat|a Kia|a pickup truck|
a red Fiat|a blue Ford|a green Mini|a white van"""

PET_NAMES = """Bello|Rex|Luna|Milo|Bella|Charlie|Rocky|Daisy|Molly|Buddy|Coco|Simba|Nala|Oreo|
Pepper|Ginger|Shadow|Smokey|Tiger|Felix|Whiskers|Mittens|Biscuit|Cookie|Waffle|Pickle|Peanut|
Muffin|Toffee|Honey|Hazel|Willow|Poppy|Rosie|Ruby|Lola|Lulu|Gizmo|Ziggy|Bruno|Rufus|Toby|Max|
Oscar|Archie|Ollie|Sunny|Snowy|Spot|Lucky|Patch|Nemo|Bubbles|Polly|Kiwi|Mango|Thunder|Star|Blaze"""

PETS = "dog|cat|rabbit|parrot|hamster|horse|turtle|goldfish|guinea pig|pony|canary|puppy|kitten"
EVENTS = """flight|exam|meeting|dentist appointment|concert|job interview|driving test|haircut|
wedding|doctor's appointment|piano lesson|train"""
DAYS = """Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday|Monday morning|Friday evening|
Saturday night|Tuesday afternoon|Sunday morning|Thursday evening"""
MONTHS = """January February March April May June July August September October November
December""".split()

FEMALE_RELATIONS = """sister|mother|mum|wife|girlfriend|daughter|aunt|grandmother|niece|grandma|
stepmother|mother-in-law"""
MALE_RELATIONS = """brother|father|dad|husband|boyfriend|son|uncle|grandfather|nephew|grandpa|
stepfather|father-in-law"""
OPEN_RELATIONS = """friend|neighbour|colleague|boss|cousin|teacher|flatmate|roommate|
best friend|partner|doctor|coach"""

SYSTEM_PROMPTS = """You are a helpful assistant.|You are Cairn, an assistant that remembers.|
You are a friendly assistant. Answer briefly.|Answer in short sentences.|You are an assistant.|
Be brief and polite.|You are a helpful assistant that remembers what people say.|
Remember what the user tells you.|Keep your answers short.|
You are a chat assistant for a small shop.|
Help the user. Be honest when you do not know something.|You are the assistant of a hotel.|
Today is a good day. Be kind to everybody."""

SYLLABLES = """ba be bo da de di do fa fe fi ga go ha hi jo ka ke ki ko la le li lo lu ma me mi
mo na ne ni no pa pe po ra re ri ro sa se si so ta te ti to tu va ve vi vo wa we ya yo za ze zo
bra cla dre fri gra kri pla qui sha she ther tra wyn xan""".split()
ENDINGS = ["", "", "", "n", "r", "s", "l", "th", "x", "ck", "ria", "ton", "berg", "ville", "ley"]


def words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.replace("\n", " ").split("|"))


# ------------------------------------------------------------------------------------- phrasings


@dataclass(frozen=True)
class Kind:
    """One kind of fact. Templates are lower case at the start and know these fields:
    {v} the value, {s} the owner ("my sister Ines"), {ss} its possessive ("my sister Ines's")."""

    key: str
    values: tuple[str, ...]
    you: str                        # the assistant's one sentence about the user
    they: str                       # ... and about somebody else; empty: a fact of the user only
    tell_you: tuple[str, ...]
    tell_they: tuple[str, ...]
    change_you: tuple[str, ...]
    change_they: tuple[str, ...]
    ask_you: tuple[str, ...]
    ask_they: tuple[str, ...]
    about_you: tuple[str, ...]      # indirect questions: "(do you remember) where I live"
    about_they: tuple[str, ...]
    ack: str = "Got it."
    check_you: str = ""             # yes-or-no questions: "do I live in {v}?"
    check_they: str = ""
    invent: bool = False            # whether a made-up word may stand for the value


def possession(key: str, noun: str, values: tuple[str, ...], nouns: tuple[str, ...] = ()) -> Kind:
    """A fact of the form "my favourite food is ..."."""
    nouns = nouns or (noun,)
    return Kind(
        key, values, f"your {noun} is {{v}}.", f"{{ss}} {noun} is {{v}}.",
        tuple(t.format(n=n) for n in nouns for t in (
            "my {n} is {{v}}.", "my {n} is {{v}}.", "my {n} would be {{v}}.", "{{v}} is my {n}.")),
        tuple(t.format(n=n) for n in nouns for t in (
            "{{ss}} {n} is {{v}}.", "{{ss}} {n} is {{v}}.", "{{v}} is {{ss}} {n}.")),
        tuple(t.format(n=n) for n in nouns for t in (
            "my {n} is now {{v}}.", "I changed my mind, my {n} is {{v}}.",
            "my {n} is not that any more, it is {{v}}.", "my new {n} is {{v}}.")),
        tuple(t.format(n=n) for n in nouns for t in (
            "{{ss}} {n} is now {{v}}.", "{{ss}} new {n} is {{v}}.")),
        tuple(t.format(n=n) for n in nouns for t in (
            "what is my {n}?", "what's my {n}?", "what was my {n}?", "my {n} is what?")),
        tuple(t.format(n=n) for n in nouns for t in (
            "what is {{ss}} {n}?", "what's {{ss}} {n}?", "what was {{ss}} {n}?")),
        tuple(t.format(n=n) for n in nouns for t in ("what my {n} is", "my {n}")),
        tuple(t.format(n=n) for n in nouns for t in ("what {{ss}} {n} is", "{{ss}} {n}")),
        check_you=f"is my {nouns[0]} {{v}}?", check_they=f"is {{ss}} {nouns[0]} {{v}}?")


def favourite(noun: str, values: str, *others: str) -> Kind:
    nouns = tuple(f"{f} {n}" for n in (noun, *others) for f in ("favourite", "favorite"))
    return possession(f"favourite {noun}", f"favourite {noun}", words(values), nouns)


def called(key: str, noun: str, values: tuple[str, ...], user_only: bool, ack: str) -> Kind:
    """The name of a pet or of a relation: "your dog is called Bello."."""
    pet = not user_only
    return Kind(
        key, values, f"your {noun} is called {{v}}.",
        f"{{ss}} {noun} is called {{v}}." if pet else "",
        (f"my {noun} is called {{v}}.", f"my {noun}'s name is {{v}}.",
         f"I have a {noun} called {{v}}.",
         f"I have a {noun} named {{v}}.", f"my {noun} is named {{v}}.",
         f"the name of my {noun} is {{v}}.", f"{{v}} is my {noun}.",
         f"I have a {noun}. Its name is {{v}}." if pet else f"I have a {noun}, {{v}}.",
         f"I have a {noun} and the name is {{v}}."),
        (f"{{ss}} {noun} is called {{v}}.", f"{{ss}} {noun}'s name is {{v}}.",
         f"{{s}} has a {noun} called {{v}}.", f"{{s}} has a {noun} named {{v}}.",
         f"{{ss}} {noun} is named {{v}}."),
        (f"my {noun} is now called {{v}}.", f"the name of my {noun} is really {{v}}.",
         f"my {noun} is not called that, but {{v}}."),
        (f"{{ss}} {noun} is now called {{v}}.", f"{{ss}} {noun} is really called {{v}}."),
        (f"what is my {noun} called?", f"what is my {noun}'s name?", f"what's my {noun}'s name?",
         f"what is the name of my {noun}?", f"how is my {noun} called?",
         f"what's my {noun} called?",
         f"what did I call my {noun}?" if pet else f"who is my {noun}?",
         f"what's the name of my {noun}?"),
        (f"what is {{ss}} {noun} called?", f"what is {{ss}} {noun}'s name?",
         f"what's {{ss}} {noun}'s name?", f"what is the name of {{ss}} {noun}?",
         f"what's the name of {{ss}} {noun}?"),
        (f"what my {noun} is called", f"my {noun}'s name", f"the name of my {noun}"),
        (f"what {{ss}} {noun} is called", f"{{ss}} {noun}'s name", f"the name of {{ss}} {noun}"),
        ack=ack, invent=True,
        check_you=f"is my {noun} called {{v}}?", check_they=f"is {{ss}} {noun} called {{v}}?")


def event(noun: str) -> Kind:
    return Kind(
        noun, words(DAYS), f"your {noun} is on {{v}}.", "",
        (f"my {noun} is on {{v}}.", f"I have a {noun} on {{v}}.".replace("a exam", "an exam"),
         f"my {noun} will be on {{v}}.", f"there is my {noun} on {{v}}.",
         f"on {{v}} is my {noun}."),
        (),
        (f"my {noun} was moved to {{v}}.", f"my {noun} is now on {{v}}.",
         f"they moved my {noun} to {{v}}."), (),
        (f"when is my {noun}?", f"what day is my {noun}?", f"on which day is my {noun}?",
         f"when's my {noun}?", f"which day is my {noun}?"), (),
        (f"when my {noun} is", f"the day of my {noun}"), (), ack="I'll remember that.",
        check_you=f"is my {noun} on {{v}}?")


def dates() -> tuple[str, ...]:
    return tuple(f"{month} {day}" for month in MONTHS for day in range(1, 29))


NAME = Kind(
    "name", tuple(FEMALE + MALE), "your name is {v}.", "",
    ("my name is {v}.", "my name's {v}.", "I'm {v}.", "I am {v}.", "call me {v}.",
     "you can call me {v}.", "this is {v}.", "{v} here.", "I'm called {v}.", "people call me {v}.",
     "my name is {v}, nice to meet you.", "the name is {v}.", "please call me {v}.",
     "it's me, {v}.", "my first name is {v}."),
    (), ("my name is really {v}.", "my name is now {v}.", "I prefer to be called {v}.",
         "I changed my name to {v}.", "call me {v} instead."), (),
    ("what is my name?", "what's my name?", "who am I?", "what am I called?", "what was my name?",
     "how am I called?", "do you know my name?", "do you remember my name?",
     "what's my first name?",
     "can you say my name?"), (),
    ("my name", "what my name is", "who I am", "what I am called"), (),
    invent=True, check_you="is my name {v}?")

KINDS: tuple[Kind, ...] = (
    NAME,
    Kind("age", tuple(str(n) for n in range(3, 100)),
         "you are {v} years old.", "{s} is {v} years old.",
         ("I am {v} years old.", "I'm {v} years old.", "I'm {v}.", "I am {v}.", "my age is {v}.",
          "I turned {v} this year.", "I just turned {v}."),
         ("{s} is {v} years old.", "{s} is {v}.", "{ss} age is {v}.", "{s} turned {v} this year."),
         ("I am {v} now.", "I'm really {v} years old.", "I turned {v} today."),
         ("{s} is {v} now.", "{s} is really {v} years old."),
         ("how old am I?", "what is my age?", "what's my age?", "what age am I?"),
         ("how old is {s}?", "what is {ss} age?", "what age is {s}?"),
         ("how old I am", "my age"), ("how old {s} is", "{ss} age"),
         check_you="am I {v} years old?", check_they="is {s} {v} years old?"),
    Kind("birthday", dates(),
         "your birthday is on {v}.", "{ss} birthday is on {v}.",
         ("my birthday is on {v}.", "my birthday is {v}.", "I was born on {v}.",
          "I have my birthday on {v}.", "{v} is my birthday."),
         ("{ss} birthday is on {v}.", "{ss} birthday is {v}.", "{s} was born on {v}."),
         ("my birthday is really on {v}.",), ("{ss} birthday is really on {v}.",),
         ("when is my birthday?", "when was I born?", "what is my birthday?", "when's my birthday?",
          "on what day is my birthday?", "what day is my birthday?"),
         ("when is {ss} birthday?", "when was {s} born?", "when's {ss} birthday?"),
         ("when my birthday is", "my birthday"), ("when {ss} birthday is", "{ss} birthday"),
         ack="I'll remember that."),
    Kind("city", words(CITIES), "you live in {v}.", "{s} lives in {v}.",
         ("I live in {v}.", "I live in {v}.", "I'm living in {v}.", "my home is in {v}.",
          "I have a flat in {v}.", "my city is {v}.", "I reside in {v}.",
          "I live near the river in {v}.",
          "home for me is {v}.", "my house is in {v}.", "I have lived in {v} for years."),
         ("{s} lives in {v}.", "{s} lives in {v}.", "{s} is living in {v}.", "{ss} home is in {v}.",
          "{s} has a flat in {v}.", "{ss} house is in {v}.", "{s} has lived in {v} for years."),
         ("I moved to {v}.", "I live in {v} now.", "I have moved to {v}.", "I just moved to {v}.",
          "I don't live there any more, I live in {v}."),
         ("{s} moved to {v}.", "{s} lives in {v} now.", "{s} has moved to {v}.",
          "{s} just moved to {v}."),
         ("where do I live?", "which city do I live in?", "what city do I live in?",
          "in which city do I live?", "where is my home?", "what's my city?", "where am I living?",
          "what is my home town?", "where's my home?", "which city is my home?"),
         ("where does {s} live?", "which city does {s} live in?", "what city does {s} live in?",
          "in which city does {s} live?", "where is {ss} home?", "where is {s} living?"),
         ("where I live", "which city I live in", "my city"),
         ("where {s} lives", "which city {s} lives in"),
         check_you="do I live in {v}?", check_they="does {s} live in {v}?", invent=True),
    Kind("country", words(COUNTRIES), "you come from {v}.", "{s} comes from {v}.",
         ("I come from {v}.", "I'm from {v}.", "I am from {v}.", "I was born in {v}.",
          "I grew up in {v}.", "my home country is {v}.", "I'm originally from {v}."),
         ("{s} comes from {v}.", "{s} is from {v}.", "{s} was born in {v}.", "{s} grew up in {v}.",
          "{s} is originally from {v}."),
         ("I'm really from {v}.", "in truth I come from {v}."), ("{s} is really from {v}.",),
         ("where do I come from?", "where am I from?", "which country am I from?",
          "what country do I come from?", "what is my home country?", "where was I born?",
          "where did I grow up?"),
         ("where does {s} come from?", "where is {s} from?", "which country is {s} from?",
          "what country does {s} come from?", "where was {s} born?", "where did {s} grow up?"),
         ("where I come from", "where I'm from", "my home country"),
         ("where {s} comes from", "where {s} is from"),
         check_you="am I from {v}?", check_they="is {s} from {v}?"),
    Kind("job", words(JOBS), "you work as {v}.", "{s} works as {v}.",
         ("I work as {v}.", "I'm {v}.", "I am {v}.", "I work as {v}.", "I'm {v} by profession.",
          "I earn my living as {v}.", "I have a job as {v}."),
         ("{s} works as {v}.", "{s} is {v}.", "{s} is {v}.", "{s} has a job as {v}."),
         ("I work as {v} now.", "I have a new job as {v}.", "I became {v}.", "I'm {v} now."),
         ("{s} works as {v} now.", "{s} has a new job as {v}.", "{s} became {v}."),
         ("what is my job?", "what's my job?", "what do I do?", "what do I do for a living?",
          "what do I work as?", "what is my profession?", "what is my occupation?",
          "how do I earn my living?", "what's my profession?"),
         ("what is {ss} job?", "what's {ss} job?", "what does {s} do?",
          "what does {s} do for a living?", "what does {s} work as?", "what is {ss} profession?"),
         ("what my job is", "what I do for a living", "my job", "what I do"),
         ("what {ss} job is", "what {s} does for a living", "what {s} does", "{ss} job"),
         check_you="am I {v}?", check_they="is {s} {v}?"),
    Kind("workplace", words(WORKPLACES), "you work at {v}.", "{s} works at {v}.",
         ("I work at {v}.", "I'm working at {v}.", "I have a job at {v}.", "my workplace is {v}."),
         ("{s} works at {v}.", "{s} is working at {v}.", "{s} has a job at {v}."),
         ("I work at {v} now.", "I have a new job at {v}."),
         ("{s} works at {v} now.", "{s} has a new job at {v}."),
         ("where do I work?", "what is my workplace?", "where am I working?",
          "which place do I work at?", "who do I work for?"),
         ("where does {s} work?", "where is {s} working?", "who does {s} work for?"),
         ("where I work", "my workplace"), ("where {s} works",),
         check_you="do I work at {v}?", check_they="does {s} work at {v}?"),
    Kind("study", words(SUBJECTS), "you study {v}.", "{s} studies {v}.",
         ("I study {v}.", "I'm studying {v}.", "I am a student of {v}.", "my subject is {v}."),
         ("{s} studies {v}.", "{s} is studying {v}.", "{s} is a student of {v}."),
         ("I study {v} now.", "I switched to {v}."), ("{s} studies {v} now.",
                                                      "{s} switched to {v}."),
         ("what do I study?", "what am I studying?", "what is my subject?",
          "which subject do I study?"),
         ("what does {s} study?", "what is {s} studying?", "which subject does {s} study?"),
         ("what I study", "what I'm studying"), ("what {s} studies", "what {s} is studying")),
    Kind("hobby", words(HOBBIES), "your hobby is {v}.", "{ss} hobby is {v}.",
         ("my hobby is {v}.", "I like {v}.", "I enjoy {v}.", "I love {v}.",
          "in my free time I like {v}.", "my favourite hobby is {v}.", "I'm really into {v}.",
          "I spend my weekends with {v}.", "my favourite pastime is {v}."),
         ("{ss} hobby is {v}.", "{s} likes {v}.", "{s} enjoys {v}.", "{s} loves {v}.",
          "{s} is really into {v}."),
         ("my new hobby is {v}.", "my hobby is now {v}."), ("{ss} new hobby is {v}.",),
         ("what is my hobby?", "what's my hobby?", "what do I like to do?",
          "what do I do in my free time?", "what do I enjoy?", "what do I like doing?",
          "what is my favourite hobby?", "what do I do for fun?"),
         ("what is {ss} hobby?", "what does {s} like to do?", "what does {s} do in the free time?",
          "what does {s} enjoy?", "what does {s} do for fun?"),
         ("what my hobby is", "my hobby", "what I like to do", "what I do in my free time"),
         ("what {ss} hobby is", "{ss} hobby", "what {s} likes to do")),
    Kind("instrument", words(INSTRUMENTS), "you play {v}.", "{s} plays {v}.",
         ("I play {v}.", "my instrument is {v}.", "I'm learning to play {v}.",
          "I have played {v} for years.",
          "I can play {v}.", "I practise {v} every day."),
         ("{s} plays {v}.", "{ss} instrument is {v}.", "{s} can play {v}.",
          "{s} is learning to play {v}."),
         ("I play {v} now.", "I switched to {v}, that is what I play."), ("{s} plays {v} now.",),
         ("what instrument do I play?", "which instrument do I play?", "what do I play?",
          "what is my instrument?", "what's my instrument?", "what musical instrument do I play?"),
         ("what instrument does {s} play?", "which instrument does {s} play?",
          "what does {s} play?",
          "what is {ss} instrument?"),
         ("which instrument I play", "what instrument I play", "my instrument"),
         ("which instrument {s} plays", "what instrument {s} plays"),
         check_you="do I play {v}?", check_they="does {s} play {v}?"),
    Kind("language", words(LANGUAGES), "you speak {v}.", "{s} speaks {v}.",
         ("I speak {v}.", "my native language is {v}.", "I can speak {v}.",
          "my mother tongue is {v}.",
          "at home I speak {v}."),
         ("{s} speaks {v}.", "{s} can speak {v}.", "{ss} native language is {v}."),
         ("I speak {v} now.",), ("{s} speaks {v} now.",),
         ("what language do I speak?", "which language do I speak?", "what is my native language?",
          "what do I speak?", "what is my mother tongue?"),
         ("what language does {s} speak?", "which language does {s} speak?",
          "what is {ss} native language?"),
         ("which language I speak", "what language I speak", "my language"),
         ("which language {s} speaks", "what language {s} speaks"),
         check_you="do I speak {v}?", check_they="does {s} speak {v}?"),
    Kind("allergy", words(ALLERGIES), "you are allergic to {v}.", "{s} is allergic to {v}.",
         ("I'm allergic to {v}.", "I am allergic to {v}.", "I have an allergy to {v}.",
          "I can't stand {v}, I'm allergic.", "my allergy is {v}."),
         ("{s} is allergic to {v}.", "{s} has an allergy to {v}."),
         ("I'm really allergic to {v}.",), ("{s} is really allergic to {v}.",),
         ("what am I allergic to?", "what is my allergy?", "what allergy do I have?",
          "which allergy do I have?", "do I have any allergies?", "what are my allergies?"),
         ("what is {s} allergic to?", "what is {ss} allergy?", "what allergy does {s} have?"),
         ("what I'm allergic to", "my allergy"), ("what {s} is allergic to", "{ss} allergy"),
         ack="I'll remember that.",
         check_you="am I allergic to {v}?", check_they="is {s} allergic to {v}?"),
    Kind("car", words(CARS), "you drive {v}.", "{s} drives {v}.",
         ("I drive {v}.", "my car is {v}.", "I have {v}.", "I own {v}."),
         ("{s} drives {v}.", "{ss} car is {v}.", "{s} owns {v}."),
         ("I drive {v} now.", "my new car is {v}.", "I bought {v}."),
         ("{s} drives {v} now.", "{ss} new car is {v}."),
         ("what car do I drive?", "what do I drive?", "which car do I have?", "what is my car?",
          "what kind of car do I drive?", "what's my car?", "what car do I have?"),
         ("what car does {s} drive?", "what does {s} drive?", "which car does {s} have?",
          "what is {ss} car?"),
         ("what car I drive", "which car I have", "my car"), ("what car {s} drives", "{ss} car"),
         check_you="do I drive {v}?", check_they="does {s} drive {v}?"),
    favourite("food", FOODS, "dish", "meal"),
    favourite("drink", DRINKS),
    favourite("colour", COLOURS, "color"),
    favourite("animal", "|".join("the " + word for word in words(ANIMALS))),
    favourite("music", MUSIC, "kind of music"),
    favourite("sport", SPORTS),
    favourite("season", SEASONS),
    possession("lucky number", "lucky number", tuple(str(n) for n in range(1, 100))),
    possession("locker code", "locker code", tuple(str(n) for n in range(1000, 10000, 7))),
    *(called(pet, pet, words(PET_NAMES), False, "How nice.") for pet in words(PETS)),
    *(event(noun) for noun in words(EVENTS)),
)

RELATION_GENDER: dict[str, str] = {
    **{word: "f" for word in words(FEMALE_RELATIONS)},
    **{word: "m" for word in words(MALE_RELATIONS)},
    **{word: "" for word in words(OPEN_RELATIONS)},
}
RELATION_KINDS: dict[str, Kind] = {
    word: called(f"relation {word}", word,
                 tuple({"f": FEMALE, "m": MALE, "": FEMALE + MALE}[gender]), True, "Got it.")
    for word, gender in RELATION_GENDER.items()
}
PET_WORDS = frozenset(words(PETS))
BY_KEY: dict[str, Kind] = {kind.key: kind for kind in (*KINDS, *RELATION_KINDS.values())}
ORDER: dict[str, int] = {key: index for index, key in enumerate(BY_KEY)}     # of a summary
# How often a kind is told and asked, relative to the others: the everyday ones most.
WEIGHTS: dict[str, float] = {key: 1.0 for key in BY_KEY}
WEIGHTS.update({"name": 4, "city": 4, "job": 3, "favourite food": 2.5, "favourite colour": 2.5,
                "hobby": 2, "age": 2, "dog": 2.5, "cat": 2, "instrument": 1.5, "birthday": 1.5})
WEIGHTS.update({key: 0.3 for key in BY_KEY if key in words(EVENTS)})
WEIGHTS.update({key: 0.35 for key in PET_WORDS - {"dog", "cat"}})

TELL_OPENERS = ("by the way, ", "oh, and ", "also, ", "just so you know, ", "you should know that ",
                "remember that ", "please remember: ", "for the record, ", "fun fact: ", "well, ",
                "I want to tell you that ", "one more thing: ", "and ", "hey, ", "so ", "listen, ",
                "please note that ", "I forgot to say that ", "let me tell you something: ")
GREETINGS = ("hi, ", "hello, ", "hi! ", "hello! ", "good morning, ", "hey, ", "hi there, ",
             "good evening. ")
CHANGE_OPENERS = ("actually, ", "sorry, ", "correction: ", "no, wait, ", "I made a mistake: ",
                  "that was wrong: ", "I have to correct myself: ", "sorry, I was wrong: ",
                  "update: ", "there is news: ")
ASK_OPENERS = ("so, ", "hey, ", "and ", "by the way, ", "quick question: ", "sorry, ", "okay, ",
               "now tell me: ", "one question: ", "please tell me: ", "hmm, ")
INDIRECT = ("can you tell me {q}?", "do you remember {q}?", "do you know {q}?", "remind me {q}.",
            "tell me {q}.", "I forgot {q}.", "please tell me {q}.", "could you tell me {q}?",
            "do you still know {q}?", "can you remember {q}?", "I wonder if you know {q}.",
            "say {q}.", "what about {q}?")
ASK_CLOSERS = (" again?", ", please?", ", do you know?", " again, please?")
SUMMARY_YOU = ("what do you know about me?", "tell me what you know about me.",
               "what have I told you?",
               "what do you remember about me?", "summarize what you know about me.",
               "can you tell me everything you know about me?", "what did I tell you about myself?")
SUMMARY_THEY = ("what do you know about {s}?", "tell me about {s}.",
                "what do you remember about {s}?",
                "what have I told you about {s}?", "tell me everything about {s}.")
PET_ASK_YOU = ("what is my pet called?", "what's my pet's name?", "what is the name of my pet?",
               "do I have a pet?", "do I have any pets?", "which pet do I have?")
PET_ASK_THEY = ("what is {ss} pet called?", "what is the name of {ss} pet?", "does {s} have a pet?")
NOTHING_YOU = "I don't know anything about you yet."
NOTHING_THEY = "I don't know that yet."

# Small talk: what the user says, and the one answer.
TALK: tuple[tuple[tuple[str, ...], str], ...] = (
    (("hi.", "hello.", "hello!", "hi there!", "hey!", "good morning.", "good evening.",
      "good afternoon.", "hey there."), "Hello! What can I do for you?"),
    (("how are you?", "how are you today?", "how is it going?", "how do you do?", "are you well?",
      "how's it going?"), "I'm fine, thank you."),
    (("thanks.", "thank you.", "thanks a lot!", "thank you very much.", "great, thanks.",
      "perfect, thank you."), "You're welcome."),
    (("what can you do?", "what are you good at?", "how can you help me?", "help."),
     "Tell me things about you, and ask me for them later."),
    (("who are you?", "what are you?", "what is your name?", "what's your name?",
      "do you have a name?"),
     "I'm Cairn, an assistant that remembers."),
    (("are you a robot?", "are you human?", "are you a person?", "are you real?"),
     "I'm a very small language model."),
    (("tell me a joke.", "do you know a joke?", "make me laugh.", "say something funny."),
     "What did zero say to eight? Nice belt!"),
    (("what is the weather like?", "is it raining?", "how is the weather today?",
      "will it rain tomorrow?"),
     "I can't see the weather from here."),
    (("what time is it?", "what day is it today?", "what is the date?"), "I don't have a clock."),
    (("what is the capital of France?", "who wrote Hamlet?", "how far is the moon?",
      "what is two plus two?", "who was Napoleon?", "how high is Mount Everest?",
      "what is the meaning of life?", "can you write a poem?", "can you book a table?",
      "what is the news today?", "who won the match?"), "I only know what you tell me."),
    (("okay.", "ok.", "I see.", "good.", "fine.", "alright.", "great.", "cool.", "nice.", "yes.",
      "no.",
      "hmm.", "right.", "wonderful."), "Okay."),
    (("bye.", "goodbye.", "see you later.", "good night.", "see you tomorrow.",
      "I have to go now."),
     "Goodbye! I'll remember what you told me."),
    (("I am sad today.", "I feel tired.", "I have a headache.", "I had a bad day.", "I am bored.",
      "my back hurts.", "I slept badly."), "I'm sorry to hear that."),
    (("I am happy today.", "I feel great.", "I had a wonderful day.", "I won a prize!",
      "I passed my test!", "it was a lovely weekend."), "I'm glad to hear that."),
    (("can you remember things?", "will you remember this?", "do you forget things?",
      "do you have a good memory?"), "Yes, I remember what you tell me."),
    (("that's right.", "correct.", "yes, that's correct.", "exactly.", "you are right.",
      "well done.",
      "very good."), "Good."),
)

# Statements without a fact about anybody; {c} a city, {n} a name, {x} a thing. All get one answer.
REMARKS = (
    "it is raining today.", "the sun is shining.", "the train was late again.",
    "I am having breakfast.",
    "I read about {c} in the newspaper.", "there was a film about {c} on television.",
    "I wrote a letter today.", "the shop was closed.", "I saw a {x} in the park.",
    "I need to buy a new {x}.", "the {x} is broken again.", "my {x} is in the kitchen.",
    "yesterday I watched a film.", "I went for a walk this morning.", "the bus was full.",
    "there is a lot of snow outside.", "I bought some {f} for dinner.", "we had {f} for lunch.",
    "the weather in {c} is bad, they say.", "a singer called {n} was on the radio.",
    "the book is about a man called {n}.", "I think about learning {l} one day.",
    "flights to {c} are expensive.", "I found a {x} in the cellar.", "the {x} costs too much.",
    "the neighbours are very loud today.", "I have so much to do this week.",
    "someone left a {x} on the stairs.", "I will clean the house later.",
    "the garden looks lovely.",
    "they are building a new bridge in {c}.", "I lost my {x} yesterday.", "the coffee is cold.",
    "the car in front of me was {k}.", "we painted the door {k}.", "the new {x} is {k}.",
    "I must not forget to water the plants.", "the lift is out of order.",
    "my phone is almost empty.",
    "a postcard from {c} came today.", "the water is too warm.", "this week went by quickly.",
    "the street is full of leaves.", "I finished my book last night.", "the match was boring.",
)
REMARK_ANSWER = "I see."
THINGS = words("""lamp|chair|table|bicycle|umbrella|coat|hat|key|cup|plate|bag|phone|clock|
mirror|blanket|pillow|basket|ladder|bottle|box|fridge|radio|camera|carpet|door|window|pen|
notebook|scarf|sofa""")


# -------------------------------------------------------------------------------------- dialogues


@dataclass(eq=False)
class Owner:
    """Whom facts are about: the user, or somebody with a relation, a name, or both."""

    relation: str = ""
    name: str = ""
    gender: str = ""                # "f" or "m"; chooses the pronoun
    is_user: bool = False
    introduced: bool = False        # whether relation and name have been said together

    def forms(self) -> list[str]:
        """The ways to refer to this person: relation and name, relation, name."""
        if self.relation and self.name:
            return ["both", "relation", "name"]
        return ["relation"] if self.relation else ["name"]

    def refer(self, form: str, my: str) -> str:
        if form == "she":
            return "she" if self.gender == "f" else "he"
        if form == "both":
            return f"{my} {self.relation} {self.name}"
        return f"{my} {self.relation}" if form == "relation" else self.name

    def label(self) -> str:
        return self.name or self.relation


@dataclass
class Fact:
    owner: Owner
    kind: Kind
    value: str
    turn: int                       # of the last mention, by either side
    forms: set[str] = field(default_factory=set)    # how the owner was referred to when told
    corrected_from: str = ""


@dataclass
class Message:
    role: str
    text: str
    trained: bool = False           # whether the model learns to say this


def capitalize(text: str) -> str:
    """Capitalizes the first letter of the text and of each sentence in it."""
    text = text[:1].upper() + text[1:]
    return re.sub(r"([.!?] )([a-z])", lambda m: m[1] + m[2].upper(), text)


class Dialogue:
    """One conversation in the making. `messages` grows by two per turn.

    `evaluation` chooses the side of the held-out rule; `style` how carefully the user types."""

    def __init__(self, rng: random.Random, evaluation: bool = False,
                 talk_share: float = 0.25, change_share: float = 0.15) -> None:
        self.rng = rng
        self.evaluation = evaluation
        self.talk_share = talk_share            # of all turns
        self.change_share = change_share        # of the turns that tell something
        self.messages: list[Message] = []
        self.facts: dict[tuple[Owner, str], Fact] = {}
        self.turn = 0
        self.style = rng.choices(("careful", "sloppy", "lower"), (0.72, 0.24, 0.04))[0]
        if evaluation and self.style == "lower":
            self.style = "careful"
        self.invent_share = rng.choice((0.0, 0.0, 0.1, 0.5))
        # Seldom the assistant's part does not repeat the fact, so that the user's words must do.
        self.generic_ack_share = rng.choice((0.0, 0.0, 0.0, 0.4))
        if evaluation:
            self.generic_ack_share = 0.0        # it says what the model itself would say
        self.protected: tuple[Owner, str] | None = None     # a fact that must not be mentioned
        self.recent: Owner | None = None                    # the person of the turn before
        self.recent_form = ""
        gender = rng.choice("fm")
        self.user = Owner(name=self.pick_name(gender), gender=gender, is_user=True)
        self.people: list[Owner] = []
        self.wished_people = rng.choice((0, 1, 2, 3, 4, 6))
        if rng.random() < 0.5:
            self.messages.append(Message("system", rng.choice(words(SYSTEM_PROMPTS))))

    # ---- words

    def invented(self) -> str:
        while True:
            count = self.rng.choice((2, 2, 3))
            word = "".join(self.rng.choice(SYLLABLES) for _ in range(count))
            word += self.rng.choice(ENDINGS)
            if held_out(word) == self.evaluation:
                return self.cased(word.capitalize())

    def cased(self, word: str) -> str:
        return word.lower() if self.style == "lower" else word

    def pick_name(self, gender: str, taken: frozenset[str] = frozenset()) -> str:
        while True:
            invent = self.rng.random() < self.invent_share
            name = self.invented() if invent else self.cased(
                self.rng.choice(FEMALE if gender == "f" else MALE))
            if name not in taken:
                return name

    def pick_value(self, owner: Owner, kind: Kind, other_than: str = "") -> str:
        """A value on our side of the held-out rule, for somebody with this name."""
        gender_names = kind.key.startswith("relation ") or kind is NAME
        taken = {person.name for person in (self.user, *self.people)} if gender_names else set()
        for _ in range(200):
            invent = kind.invent and self.rng.random() < self.invent_share
            value = self.invented() if invent else self.cased(self.rng.choice(kind.values))
            if value == other_than or value in taken:
                continue
            if held_out(owner.label(), value) == self.evaluation or self.style == "lower":
                return value
        return self.invented() if kind.invent else value

    # ---- people

    def taken_names(self) -> frozenset[str]:
        return frozenset(person.name for person in (self.user, *self.people))

    def new_person(self) -> Owner:
        """Somebody who has not been mentioned; relations are unique within a dialogue."""
        used = {person.relation for person in self.people}
        relation = self.rng.choice([word for word in RELATION_GENDER if word not in used])
        gender = RELATION_GENDER[relation] or self.rng.choice("fm")
        shape = self.rng.choices(("both", "relation", "name"), (0.6, 0.2, 0.2))[0]
        for _ in range(200):
            name = self.pick_name(gender, self.taken_names())
            if held_out(self.user.name, name) == self.evaluation:
                break
        return Owner(relation if shape != "name" else "", name if shape != "relation" else "",
                     gender)

    def owner_to_tell(self) -> Owner:
        if self.rng.random() < 0.5 or self.wished_people == 0:
            return self.user
        if len(self.people) < self.wished_people and self.rng.random() < 0.5:
            person = self.new_person()
            self.people.append(person)
            return person
        return self.rng.choice(self.people) if self.people else self.user

    def kinds_of(self, owner: Owner) -> list[Kind]:
        return [kind for kind in KINDS if owner.is_user or kind.they]

    def pick_kind(self, kinds: list[Kind]) -> Kind:
        return self.rng.choices(kinds, [WEIGHTS[kind.key] for kind in kinds])[0]

    # ---- sentences

    def sentence(self, template: str, owner: Owner, form: str, my: str, value: str) -> str:
        subject = "" if owner.is_user else owner.refer(form, my)
        possessive = {"she": "her", "he": "his"}.get(subject, subject + "'s")
        return template.format(v=value, s=subject, ss=possessive)

    def assistant_says(self, fact: Fact, form: str) -> str:
        template = fact.kind.you if fact.owner.is_user else fact.kind.they
        text = self.sentence(template, fact.owner, form, "your", fact.value)
        bare_name = not fact.owner.is_user and form == "name"
        return text if bare_name else capitalize(text)

    def typed(self, text: str) -> str:
        """The text as this user types it."""
        if self.style == "lower":
            return text.lower().rstrip("." if self.rng.random() < 0.5 else "")
        if self.style == "careful":
            return capitalize(text)
        if self.rng.random() < 0.5:
            text = re.sub(r"\bI\b", "i", text)
        else:
            text = capitalize(text)
        if self.rng.random() < 0.3:
            text = text.replace("I'm", "Im").replace("i'm", "im").replace("hat's", "hats")
        return text.rstrip(".?!") if self.rng.random() < 0.5 else text

    def exchange(self, user: str, assistant: str, trained: bool = True) -> None:
        self.messages.append(Message("user", self.typed(user)))
        self.messages.append(Message("assistant", assistant, trained))
        self.turn += 1

    # ---- turns: telling

    def tell_form(self, owner: Owner) -> str:
        if owner.is_user:
            return "both"
        if owner.relation and owner.name and not owner.introduced:
            return "both" if self.rng.random() < 0.85 else "relation"
        return self.rng.choice(owner.forms())

    def learn(self, owner: Owner, kind: Kind, value: str, form: str) -> Fact:
        key = (owner, kind.key)
        old = self.facts.get(key)
        fact = Fact(owner, kind, value, self.turn, {form}, old.value if old else "")
        self.facts[key] = fact
        if form == "both" and not owner.is_user:
            owner.introduced = True
            self.mention_relation(owner)
        return fact

    def mention_relation(self, owner: Owner) -> None:
        """Relation and name were said together, which is itself a fact of the user."""
        kind = RELATION_KINDS[owner.relation]
        key = (self.user, kind.key)
        if key in self.facts:
            self.facts[key].turn = self.turn
        else:
            self.facts[key] = Fact(self.user, kind, owner.name, self.turn, {"both"})

    def statement(self, owner: Owner, kind: Kind, value: str, form: str, change: bool) -> str:
        if owner.is_user:
            templates = kind.change_you if change else kind.tell_you
        else:
            templates = kind.change_they if change else kind.tell_they
        return self.sentence(self.rng.choice(templates), owner, form, "my", value)

    def tell(self, owner: Owner | None = None, kind: Kind | None = None) -> Fact | None:
        """One message with one to three new facts; returns the first."""
        rng = self.rng
        count = rng.choices((1, 2, 3), (0.72, 0.2, 0.08))[0]
        texts: list[str] = []
        answers: list[str] = []
        first: Fact | None = None
        ack = "Got it."
        for index in range(count):
            who = owner if index == 0 and owner else self.owner_to_tell()
            form = self.tell_form(who)
            pronoun_fits = who is self.recent and self.recent_form != "she" and not who.is_user
            answer_form = form
            if index > 0 and first and not who.is_user and who is first.owner or (
                    index == 0 and pronoun_fits and rng.random() < 0.3):
                answer_form = self.recent_form if index == 0 else answer_form_first
                form = "she"
            if kind and index == 0:
                which = kind
            else:
                free = [k for k in self.kinds_of(who) if (who, k.key) not in self.facts
                        and (who, k.key) != self.protected]
                if not free:
                    continue
                which = self.pick_kind(free)
            value = self.pick_value(who, which)
            texts.append(self.statement(who, which, value, form, False))
            fact = self.learn(who, which, value, answer_form)
            answers.append(self.assistant_says(fact, answer_form))
            if which is NAME:
                answers[-1] = f"Nice to meet you, {value}."
            if first is None:
                first, ack, answer_form_first = fact, which.ack, answer_form
                if which is NAME:
                    ack = ""
        if first is None:
            return None
        if len(texts) == 2 and rng.random() < 0.5 and texts[0].endswith("."):
            text = texts[0][:-1] + " and " + texts[1]
        else:
            text = " ".join(texts)
        openers = GREETINGS if self.turn == 0 else TELL_OPENERS
        if rng.random() < 0.35:
            text = rng.choice(openers) + text
        if rng.random() < 0.06:
            text = text + " " + self.remark()
        generic = rng.random() < self.generic_ack_share
        answer = " ".join([ack, *answers]).strip()
        if generic:
            answer = rng.choice(("Okay.", "Noted.", "Thanks."))
        self.exchange(text, answer, trained=not generic)
        self.recent = first.owner if not first.owner.is_user and len(texts) == 1 else None
        self.recent_form = answer_form_first
        return first

    def tell_relation(self) -> Fact | None:
        """ "My sister is called Ines." """
        if len(self.people) >= self.wished_people:
            return None
        person = self.new_person()
        if not (person.relation and person.name):
            return None
        self.people.append(person)
        person.introduced = True
        kind = RELATION_KINDS[person.relation]
        fact = self.learn(self.user, kind, person.name, "both")
        text = self.statement(self.user, kind, person.name, "both", False)
        if self.rng.random() < 0.25:
            text = self.rng.choice(TELL_OPENERS) + text
        self.exchange(text, f"Got it. {self.assistant_says(fact, 'both')}")
        self.recent, self.recent_form = person, "both"
        return fact

    def change(self, fact: Fact | None = None) -> Fact | None:
        """Tells a known fact again with another value."""
        choices = [f for k, f in self.facts.items()
                   if k != self.protected and not f.kind.key.startswith("relation ")]
        if fact is None:
            if not choices:
                return None
            fact = self.rng.choice(choices)
        owner, kind = fact.owner, fact.kind
        value = self.pick_value(owner, kind, other_than=fact.value)
        form = self.rng.choice(sorted(fact.forms)) if not owner.is_user else "both"
        marked = self.rng.random() < 0.8
        own_words = marked and self.rng.random() < 0.6
        text = self.statement(owner, kind, value, form, own_words)
        if marked and (not own_words or self.rng.random() < 0.3):
            text = self.rng.choice(CHANGE_OPENERS) + text
        new = self.learn(owner, kind, value, form)
        if kind is NAME and not marked:
            answer = f"Nice to meet you, {value}."
        else:
            answer = "Okay, noted. " if marked else kind.ack + " "
            answer += self.assistant_says(new, form)
        self.exchange(text, answer)
        self.recent = None
        return new

    # ---- turns: asking

    def ask_form(self, fact: Fact) -> str:
        """A way to refer to the owner under which the fact can be found, seldom in two steps."""
        owner = fact.owner
        if owner.is_user:
            return "both"
        if owner.introduced and self.rng.random() < 0.15:
            return self.rng.choice(owner.forms())
        if "both" in fact.forms:
            return self.rng.choice(owner.forms())
        usable = [form for form in owner.forms() if form in fact.forms]
        return self.rng.choice(usable) if usable else owner.forms()[0]

    def question(self, owner: Owner, kind: Kind, form: str) -> str:
        rng = self.rng
        if rng.random() < 0.25:
            about = rng.choice(kind.about_you if owner.is_user else kind.about_they)
            text = rng.choice(INDIRECT).format(q=about)
        else:
            text = rng.choice(kind.ask_you if owner.is_user else kind.ask_they)
            if rng.random() < 0.12:
                text = text.rstrip("?") + rng.choice(ASK_CLOSERS)
        if rng.random() < 0.2:
            text = rng.choice(ASK_OPENERS) + text
        return self.sentence(text, owner, form, "my", "")

    def touch(self, fact: Fact, form: str) -> None:
        fact.turn = self.turn
        if form == "both" and not fact.owner.is_user:
            fact.owner.introduced = True
            self.mention_relation(fact.owner)

    def pick_fact(self) -> Fact | None:
        """A told fact whose last mention lies about as far back as a random distance."""
        facts = [fact for key, fact in self.facts.items() if key != self.protected]
        if not facts:
            return None
        if self.rng.random() < 0.15:
            return self.rng.choice(facts)
        distance = self.rng.randint(1, 22)
        return min(facts, key=lambda f: (abs(self.turn - f.turn - distance), self.rng.random()))

    def ask(self, fact: Fact | None = None, plain: bool = False) -> Fact | None:
        """Asks for one fact; `plain` leaves out pronouns, yes-or-no and other special forms."""
        fact = fact or self.pick_fact()
        if fact is None:
            return None
        rng, owner, kind = self.rng, fact.owner, fact.kind
        form = self.ask_form(fact)
        answer_form = form
        if not plain and owner is self.recent and rng.random() < 0.4:
            form, answer_form = "she", self.recent_form
        check = kind.check_you if owner.is_user else kind.check_they
        if not plain and check and rng.random() < 0.06:
            same = rng.random() < 0.5
            value = fact.value if same else self.pick_value(owner, kind, other_than=fact.value)
            text = self.sentence(check, owner, form, "my", value)
            says = self.assistant_says(fact, answer_form)
            bare_name = not owner.is_user and answer_form == "name"
            says = says if bare_name else says[0].lower() + says[1:]
            self.exchange(text, ("Yes, " if same else "No, ") + says)
        else:
            text = self.question(owner, kind, form)
            one_pet = kind.key in PET_WORDS and len(self.pets_of(owner)) == 1
            if not plain and one_pet and rng.random() < 0.2:
                text = self.pet_question(owner, form)
            self.exchange(text, self.assistant_says(fact, answer_form))
        self.turn -= 1
        self.touch(fact, answer_form)
        self.turn += 1
        self.recent = owner if not owner.is_user else None
        self.recent_form = answer_form
        return fact

    def pets_of(self, owner: Owner) -> list[Fact]:
        return [f for (who, key), f in self.facts.items() if who is owner and key in PET_WORDS]

    def pet_question(self, owner: Owner, form: str) -> str:
        """A question about a pet of unsaid kind, for an owner of at most one."""
        template = self.rng.choice(PET_ASK_YOU if owner.is_user else PET_ASK_THEY)
        return self.sentence(template, owner, form, "my", "")

    def ask_two(self) -> bool:
        """ "What is my name and where do I live?" """
        one, two = self.pick_fact(), self.pick_fact()
        if one is None or two is None or one is two:
            return False
        forms = self.ask_form(one), self.ask_form(two)
        parts = [self.rng.choice(f.kind.ask_you if f.owner.is_user else f.kind.ask_they)
                 for f in (one, two)]
        parts = [self.sentence(part, fact.owner, form, "my", "")
                 for part, fact, form in zip(parts, (one, two), forms)]
        self.exchange(parts[0].rstrip("?") + " and " + parts[1],
                      self.assistant_says(one, forms[0]) + " " + self.assistant_says(two, forms[1]))
        self.turn -= 1
        self.touch(one, forms[0])
        self.touch(two, forms[1])
        self.turn += 1
        self.recent = None
        return True

    def ask_unknown(self) -> bool:
        """Asks for something that was never told."""
        rng = self.rng
        roll = rng.random()
        if roll < 0.55:
            owner = self.user
        elif roll < 0.85 and self.people:
            owner = rng.choice(self.people)
        else:
            owner = self.new_person()
        kinds = self.kinds_of(owner)
        if owner.is_user and rng.random() < 0.15:
            kinds = list(RELATION_KINDS.values())
        known_relations = {f"relation {person.relation}" for person in self.people}
        free = [kind for kind in kinds if (owner, kind.key) not in self.facts
                and kind.key not in known_relations]
        if not free:
            return False
        kind = self.pick_kind(free)
        introduced = owner.introduced or owner not in self.people
        form = rng.choice(owner.forms()) if introduced else owner.forms()[-1]
        if not introduced:
            form = "relation" if owner.relation else "name"
        if owner.is_user:
            form = "both"
        text = self.question(owner, kind, form)
        if kind.key in PET_WORDS and not self.pets_of(owner) and rng.random() < 0.3:
            text = self.pet_question(owner, form)
        self.exchange(text, UNKNOWN)
        self.recent = None
        return True

    def ask_who(self) -> bool:
        """ "Who is Ines?" "Ines is your sister." """
        if self.protected:
            return False
        people = [p for p in self.people if p.introduced and p.relation and p.name]
        pets = self.pets_of(self.user)
        if self.rng.random() < 0.25:
            name, answer = self.pick_name(self.rng.choice("fm"), self.taken_names()), UNKNOWN
        elif people and (not pets or self.rng.random() < 0.7):
            person = self.rng.choice(people)
            name, answer = person.name, f"{person.name} is your {person.relation}."
            self.facts[(self.user, f"relation {person.relation}")].turn = self.turn
        elif pets:
            pet = self.rng.choice(pets)
            name, answer = pet.value, f"{pet.value} is your {pet.kind.key}."
            if name in self.taken_names():
                return False
            pet.turn = self.turn
        else:
            return False
        text = self.rng.choice(("who is {}?", "who's {}?", "who was {}?", "do you know who {} is?",
                                "tell me who {} is."))
        self.exchange(text.format(name), answer)
        self.recent = None
        return True

    def ask_summary(self) -> bool:
        if self.protected:
            return False
        known = [f.owner for f in self.facts.values() if f.owner.name and not f.owner.is_user]
        if known and self.rng.random() < 0.4:
            owner = self.rng.choice(known)
            facts = [f for f in self.facts.values() if f.owner is owner]
            form = "both" if owner.introduced and self.rng.random() < 0.3 else "name"
            if any(f.forms == {"relation"} for f in facts):
                return False
            text = self.sentence(self.rng.choice(SUMMARY_THEY), owner, form, "my", "")
            nothing = NOTHING_THEY
        else:
            owner, form, nothing = self.user, "both", NOTHING_YOU
            facts = [f for f in self.facts.values() if f.owner is owner]
            text = self.rng.choice(SUMMARY_YOU)
        facts = sorted(facts, key=lambda f: ORDER[f.kind.key])[:SUMMARY_SENTENCES_MAX]
        answer = " ".join(self.assistant_says(f, form) for f in facts) or nothing
        self.exchange(text, answer)
        for fact in facts:
            fact.turn = self.turn - 1
        self.recent = None
        return True

    # ---- turns: small talk

    def remark(self) -> str:
        return self.rng.choice(REMARKS).format(
            c=self.rng.choice(words(CITIES)), n=self.rng.choice(FEMALE + MALE),
            x=self.rng.choice(THINGS), f=self.rng.choice(words(FOODS)),
            l=self.rng.choice(words(LANGUAGES)), k=self.rng.choice(words(COLOURS)))

    def talk(self) -> None:
        if self.rng.random() < 0.55:
            texts, answer = self.rng.choice(TALK)
            self.exchange(self.rng.choice(texts), answer)
        else:
            count = self.rng.choices((1, 2, 4), (0.75, 0.2, 0.05))[0]
            self.exchange(" ".join(self.remark() for _ in range(count)), REMARK_ANSWER)
        self.recent = None

    # ---- the whole

    def step(self, ask_share: float = 0.62) -> None:
        """One more turn of any sort."""
        rng = self.rng
        if rng.random() < self.talk_share:
            self.talk()
            return
        if len(self.facts) > 1 and rng.random() < ask_share:
            roll = rng.random()
            if roll < 0.13:
                done = self.ask_unknown()
            elif roll < 0.18:
                done = self.ask_who()
            elif roll < 0.21:
                done = self.ask_summary()
            elif roll < 0.25:
                done = self.ask_two()
            else:
                done = self.ask() is not None
        elif rng.random() < 0.06:
            done = self.ask_unknown()
        elif rng.random() < self.change_share:
            done = self.change() is not None
        elif rng.random() < 0.15:
            done = self.tell_relation() is not None
        elif self.turn < 3 and rng.random() < 0.4 and (self.user, "name") not in self.facts:
            done = self.protected != (self.user, "name") and self.tell_name() is not None
        else:
            done = self.tell() is not None
        if not done:
            self.talk()

    def tell_name(self) -> Fact | None:
        """The user's own name is fixed from the start, because the held-out rule speaks of it."""
        fact = self.learn(self.user, NAME, self.user.name, "both")
        text = self.statement(self.user, NAME, self.user.name, "both", False)
        if self.rng.random() < 0.5:
            text = self.rng.choice(GREETINGS if self.turn == 0 else TELL_OPENERS) + text
        self.exchange(text, f"Nice to meet you, {self.user.name}.")
        self.recent = None
        return fact


def training_dialogue(rng: random.Random, tokens_wanted: int, dense: bool = False) -> list[Message]:
    """A dialogue of at least about this many tokens; its beginning is a shorter one, so that every
    length is trained at once. A dense one has more questions and corrections, less small talk."""
    talk_share = rng.choice((0.1, 0.1, 0.2, 0.35) if dense else (0.1, 0.2, 0.35, 0.55))
    dialogue = Dialogue(rng, talk_share=talk_share, change_share=0.3 if dense else 0.15)
    characters_wanted = tokens_wanted * 5
    characters = 0
    counted = 0
    while characters < characters_wanted:
        dialogue.step(ask_share=0.75 if dense else 0.62)
        characters += sum(len(m.text) + 10 for m in dialogue.messages[counted:])
        counted = len(dialogue.messages)
    return dialogue.messages


def expected_value(fact: Fact) -> str:
    """What an answer has to contain; numbers with what surrounds them, so that 3 is not 31."""
    if fact.value[-1].isdigit():
        return f" {fact.value} years" if fact.kind.key == "age" else f" {fact.value}."
    return without_article(fact.value)


def without_article(value: str) -> str:
    return re.sub(r"^(a|an|the) ", "", value)


def evaluation_case(rng: random.Random, distance: int, category: str, turns_before: int) -> dict:
    """A dialogue with `turns_before` turns, then the telling, then distance - 1 other turns, and
    then the question. Categories: user, person, corrected, unknown (never told; distance 0)."""
    while True:
        dialogue = Dialogue(rng, evaluation=True, talk_share=rng.choice((0.2, 0.35, 0.5)))
        if category == "person":
            dialogue.wished_people = max(2, dialogue.wished_people)
        owner = dialogue.user
        if category == "person":
            owner = dialogue.new_person()
            dialogue.people.append(owner)
        elif category == "corrected" and rng.random() < 0.4 and dialogue.wished_people:
            owner = dialogue.new_person()
            dialogue.people.append(owner)
        kind = dialogue.pick_kind([
            kind for kind in dialogue.kinds_of(owner) if kind.key != "favourite season"])
        key = (owner, kind.key)
        dialogue.protected = key
        for _ in range(turns_before):
            dialogue.step()
        if key in dialogue.facts:
            continue
        if category == "unknown":
            dialogue.protected = None
            if not dialogue.ask_unknown():
                continue
            answer, expected, forbidden = UNKNOWN, ["don't know"], []
        else:
            if kind is NAME:
                fact = dialogue.tell_name()
            else:
                fact = dialogue.tell(owner, kind)
            if category == "corrected":
                for _ in range(rng.randint(0, 3)):
                    dialogue.step()
                fact = dialogue.change(fact)
            for _ in range(distance - 1):
                dialogue.step()
            if fact is not dialogue.facts.get(key):
                continue
            if kind is not NAME and not held_out(owner.label(), fact.value):
                continue
            dialogue.recent = None
            dialogue.ask(fact, plain=True)
            answer, expected = dialogue.messages[-1].text, [expected_value(fact)]
            old = without_article(fact.corrected_from)
            forbidden = [old] if old and old not in answer else []
        messages = [{"role": m.role, "content": m.text} for m in dialogue.messages[:-2]]
        return {"category": category, "fact": kind.key if category != "unknown" else "",
                "distance": distance, "messages": messages, "question": dialogue.messages[-2].text,
                "expected": expected, "forbidden": forbidden, "reference": answer}
