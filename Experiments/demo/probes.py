# The demo's two probes: minimal pairs of English grammar and medical multiple choice.
# The pairs watch general ability; the questions ask only for facts that the medical train texts state.
"""pairs(random) and medical_choice(tables, random) give rows; check(...) verifies them."""

import re
from grammar import article, capitalised

PAIRS, CHOICES = 200, 100
# singular, plural
PEOPLE = [("teacher", "teachers"), ("farmer", "farmers"), ("sailor", "sailors"), ("baker", "bakers"),
          ("child", "children"), ("woman", "women"), ("man", "men"), ("neighbor", "neighbors"),
          ("traveler", "travelers"), ("friend", "friends")]
THINGS = [("house", "houses"), ("tree", "trees"), ("boat", "boats"), ("letter", "letters"),
          ("table", "tables"), ("window", "windows"), ("garden", "gardens"), ("book", "books"),
          ("bridge", "bridges"), ("horse", "horses")]
# third person singular, base
VERBS = [("walks", "walk"), ("sings", "sing"), ("works", "work"), ("sleeps", "sleep"),
         ("laughs", "laugh"), ("waits", "wait"), ("listens", "listen"), ("rests", "rest")]
# past, a wrong past, what follows
PAST = [("went", "goed", "home"), ("sang", "singed", "a song"), ("took", "taked", "the book"),
        ("wrote", "writed", "a letter"), ("knew", "knowed", "the way"), ("gave", "gived", "an answer"),
        ("came", "comed", "back"), ("found", "finded", "the road"), ("kept", "keeped", "the key"),
        ("saw", "seed", "the light")]
PLACES = ["near the river", "behind the church", "in the garden", "by the gate", "on the hill",
          "beside the lake"]
WHERE = PLACES + ["in the evening", "before dinner"]
SHE = ["Clara", "Martha", "Helen", "Lucy", "Grace", "Nora"]
HE = ["Arthur", "Thomas", "George", "Daniel", "Henry", "Walter"]
DOING = ["saw", "washed", "blamed", "praised", "hurt", "admired"]
ADJECTIVES = ["old", "tall", "quiet", "small", "green", "heavy"]


def pair(kind, r):
  """One (good, bad) pair of the named phenomenon."""
  one, many = r.choice(PEOPLE)
  thing, things = r.choice(THINGS)
  sings, sing = r.choice(VERBS)
  where = r.choice(WHERE)
  if kind == "subject_verb_singular":
    return f"The {one} {sings} {where}.", f"The {one} {sing} {where}."
  if kind == "subject_verb_plural":
    return f"The {many} {sing} {where}.", f"The {many} {sings} {where}."
  if kind == "subject_verb_attractor":
    if r.random() < 0.5:
      head = f"The {one} near the {things}"
      return f"{head} {sings} every day.", f"{head} {sing} every day."
    head = f"The {many} near the {thing}"
    return f"{head} {sing} every day.", f"{head} {sings} every day."
  if kind == "be_agreement":
    place, adjective = r.choice(PLACES), r.choice(ADJECTIVES)
    return f"The {things} {place} were {adjective}.", f"The {things} {place} was {adjective}."
  if kind == "determiner_noun":
    this, these = r.choice((("this", "these"), ("that", "those")))
    number = r.random() < 0.5
    noun, wrong = (thing, things) if number else (things, thing)
    word = this if number else these
    return f"They looked at {word} {noun}.", f"They looked at {word} {wrong}."
  if kind == "reflexive_gender":
    name = r.choice(SHE + HE)
    right, wrong = ("herself", "himself") if name in SHE else ("himself", "herself")
    verb = r.choice(DOING)
    return f"{name} {verb} {right} {where}.", f"{name} {verb} {wrong} {where}."
  if kind == "reflexive_number":
    verb = r.choice(DOING)
    return f"The {many} {verb} themselves {where}.", f"The {many} {verb} itself {where}."
  if kind == "pronoun_case":
    name = r.choice(SHE + HE)
    right, wrong = r.choice((("me", "I"), ("us", "we"), ("them", "they")))
    return f"{name} gave {right} the {thing}.", f"{name} gave {wrong} the {thing}."
  if kind == "adjective_order":
    adjective = r.choice(ADJECTIVES)
    tail = f"belonged to the {one}."
    return f"The {adjective} {thing} {tail}", f"The {thing} {adjective} {tail}"
  if kind == "verb_order":
    past, _, rest = r.choice(PAST)
    return f"The {one} {past} {rest} {where}.", f"The {one} {rest} {past} {where}."
  if kind == "question_order":
    return f"Where does the {one} {sing}?", f"Where the {one} does {sing}?"
  if kind == "irregular_past":
    past, wrong, rest = r.choice(PAST)
    return f"The {one} {past} {rest}.", f"The {one} {wrong} {rest}."
  adjective = r.choice(("old", "open", "empty", "ugly", "iron", "ivory"))
  return f"He saw an {adjective} {thing} {where}.", f"He saw a {adjective} {thing} {where}."


PHENOMENA = ("subject_verb_singular", "subject_verb_plural", "subject_verb_attractor", "be_agreement",
             "determiner_noun", "reflexive_gender", "reflexive_number", "pronoun_case", "adjective_order",
             "verb_order", "question_order", "irregular_past", "article")


def pairs(r):
  """PAIRS minimal pairs, the phenomena in turn, no sentence twice."""
  rows, seen = [], set()
  while len(rows) < PAIRS:
    kind = PHENOMENA[len(rows) % len(PHENOMENA)]
    good, bad = pair(kind, r)
    if good not in seen:
      seen.add(good)
      rows.append({"sentence_good": good, "sentence_bad": bad, "phenomenon": kind})
  return rows


# table, column asked for, number of questions, question, statement; X is the name, Y the answer.
ASKED = (
  ("drug", "class", 40, "What kind of drug is X?", "X is Y"),
  ("organism", "kind", 12, "What kind of organism is X?", "X is Y"),
  ("condition", "def", 20, "Which description fits X?", "X is Y"),
  ("procedure", "purpose", 18, "Why is X performed?", "X is performed for Y"),
  ("structure", "artery", 10, "Which artery supplies the X?", "Blood reaches the X through the Y"),
)


def stating(name, answer, lowered):
  """How many of the lower-case texts have a line with the name and later the answer."""
  fact = re.compile(re.escape(name.lower()) + r"[^\n]*" + re.escape(answer.lower()))
  return sum(1 for text in lowered if fact.search(text))


def medical_choice(tables, train, r):
  """CHOICES questions of four answers each, on the facts that the train texts state most often.

  The wrong answers are true of other rows of the table."""
  rows, lowered = [], [text.lower() for text in train]
  for table, column, count, question, statement in ASKED:
    values = sorted({row[column] for row in tables.rows[table]})
    order = {row["name"]: -stating(row["name"], row[column], lowered) for row in tables.rows[table]}
    known = sorted(tables.rows[table], key=lambda row: order[row["name"]])
    for number, row in enumerate(known[:count]):
      answers = r.sample([value for value in values if value != row[column]], 3)
      label = number % 4
      answers.insert(label, row[column])
      if column in ("class", "kind"):
        answers = [f"{article(answer)} {answer}" for answer in answers]
      rows.append({"question": question.replace("X", row["name"]),
                   "choices": [capitalised(statement.replace("Y", answer).replace("X", row["name"]))
                               for answer in answers],
                   "label": label, "_fact": [row["name"], row[column]]})
  r.shuffle(rows)
  return rows


def check(pair_rows, choice_rows, train):
  """Mistakes in the probes: wrong counts, repeats, a fact that no train document states, a leak."""
  wrong = []
  lowered = [text.lower() for text in train]
  print(f"pairs: {len(pair_rows)}; medical_choice: {len(choice_rows)}, "
        f"labels {[sum(row['label'] == i for row in choice_rows) for i in range(4)]}")
  if len({row["sentence_good"] for row in pair_rows}) != PAIRS:
    wrong.append(f"pairs: not {PAIRS} different sentences")
  if len({row["question"] for row in choice_rows}) != CHOICES:
    wrong.append(f"medical_choice: not {CHOICES} different questions")
  for row in pair_rows:
    if row["sentence_good"] == row["sentence_bad"]:
      wrong.append(f"pairs: both sentences are {row['sentence_good']!r}")
    if any(row["sentence_good"].lower() in text for text in lowered):
      wrong.append(f"pairs: a train text holds {row['sentence_good']!r}")
  for row in choice_rows:
    if not stating(*row["_fact"], lowered):
      wrong.append(f"medical_choice: no train text states {row['_fact']}")
    if len(set(row["choices"])) != 4:
      wrong.append(f"medical_choice: equal choices in {row['question']!r}")
    if any(row["question"].lower() in text for text in lowered):
      wrong.append(f"medical_choice: a train text asks {row['question']!r}")
  return wrong
