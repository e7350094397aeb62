# The template grammar of the demo's corpora: tables of terms, slots, alternatives.
# It lets one hand-written passage state many true facts (a drug keeps its own class, a tort its elements).
"""Tables, template files and the expansion of one template.

Tables file:     "@table name col col ..." then one row per line, cells separated by " | ".
                 "%role word word : table" lets a slot name stand for a table (patient is a person);
                 "%near table col": {x2} is a row that agrees with {x} in that column, where there is one.
Templates file:  "== kind" then one template per line.
Slots:           {x} {x.col} {x.col.col} (a cell may name a row of another table); {X...} capitalises;
                 {a x.col} puts a or an; {the x.col} puts "the" for it;
                 {x2} is another row than {x}; {n:3-9} integer; {d:1.2-3.4} decimal;
                 {money:100-9000}; {date}; {year:1800-1990}; [one|two] picks; \\n is a line break.
"""

import random
import re

PRONOUNS = {"f": ("she", "her", "her", "herself", "woman", "Ms."),
            "m": ("he", "him", "his", "himself", "man", "Mr."),
            "n": ("it", "it", "its", "itself", "company", "")}
# Words whose first letter misleads the choice between "a" and "an".
AN_WORDS = {"hour", "honest", "honor", "honour", "heir", "mri", "x-ray", "mrna", "hmg-coa", "nsaid"}
A_WORDS = re.compile(r"(uni(?!n|m)|use|usu|eu|one\b|once\b|uter|ure|uri|ute)", re.I)
SLOT = re.compile(r"\{([^{}]+)\}")
CHOICE = re.compile(r"\[([^\[\]]*)\]")


class TemplateError(Exception):
  """A template or table names something that does not exist; says which."""


def article(phrase):
  """The indefinite article that the spoken form of `phrase` takes."""
  word = re.match(r"[\w-]+", phrase)
  word = word.group(0) if word else phrase
  if word.lower() in AN_WORDS or re.match(r"(8|11\b|18\b)", word):
    return "an"
  if re.fullmatch(r"[AEFHILMNORSX][A-Z0-9-]+", word):  # read letter by letter: an ECG, an LDL
    return "an"
  if A_WORDS.match(word):
    return "a"
  return "an" if word[0].lower() in "aeiou" else "a"


def capitalised(text):
  return text[:1].upper() + text[1:]


class Tables:
  """The terms of one domain: rows and columns by table, and the slots that stand for a table."""

  def __init__(self, paths):
    self.rows, self.columns, self.roles, self.near = {}, {}, {}, {}
    for path in paths:
      self._read(path)

  def _read(self, path):
    table = None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
      line = line.strip()
      where = f"{path.name}:{number}"
      if not line or line.startswith("#"):
        continue
      if line.startswith("@"):
        table, *columns = line[1:].split()
        self.columns[table] = ["name", *columns]
        self.rows[table] = []
      elif line.startswith("%near"):
        self.near.update([line.split()[1:]])
      elif line.startswith("%role"):
        words, target = line[len("%role"):].split(":")
        self.roles.update({word: target.strip() for word in words.split()})
      else:
        cells = [cell.strip() for cell in line.split("|")]
        if len(self.columns[table]) == 1:  # a plain list: several values on a line
          self.rows[table] += [{"name": cell} for cell in cells if cell]
          continue
        if len(cells) != len(self.columns[table]) or "" in cells:
          raise TemplateError(f"{where}: {len(cells)} cells, {len(self.columns[table])} columns")
        self.rows[table].append(dict(zip(self.columns[table], cells)))

  def row(self, table, name):
    for row in self.rows[table]:
      if row["name"] == name:
        return row
    raise TemplateError(f"table {table} has no row {name!r}")


class Writer:
  """Expands templates for one split; uses every row of a table about equally often."""

  def __init__(self, tables, split, seed):
    self.tables, self.split = tables, split
    self.random = random.Random(seed)
    self.decks, self.dealt = {}, []
    self.bound, self.shared, self.names = {}, set(), set()

  def begin(self, shared):
    """Starts a document in which the slots of `shared` keep their meaning between passages."""
    self.bound, self.shared, self.names, self.dealt = {}, set(shared), set(), []

  def bind(self, key, table, name):
    """Gives slot `key` the row of `table` called `name`."""
    self.names.add((table, name))
    self.bound[key] = {**self.tables.row(table, name), "_table": table}

  def cell(self, key, column):
    """The cell of slot `key`, drawing a row if the document has none yet."""
    return self._value(key, [column])

  def passage(self, template):
    """One passage; slots that the document does not share are forgotten after it."""
    text = template
    while CHOICE.search(text):
      text = CHOICE.sub(lambda match: self.random.choice(match.group(1).split("|")), text)
    text = SLOT.sub(lambda match: self._slot(match.group(1)), text)
    self.bound = {key: row for key, row in self.bound.items() if key in self.shared}
    text = text.replace("\\n", "\n").replace("..", ".")
    return re.sub(r"(?m)^[a-z]", lambda match: match.group(0).upper(), text)

  def deal(self, deck_name, items):
    """The next item of a shuffled deck; the deck is reshuffled when it runs out."""
    deck = self.decks.setdefault(deck_name, [])
    if not deck:
      deck.extend(range(len(items)))
      self.random.shuffle(deck)
    self.dealt.append((deck_name, deck[-1]))
    return items[deck.pop()]

  def undo(self):
    """Puts back what the present document has drawn, for a document that is thrown away."""
    while self.dealt:
      deck_name, index = self.dealt.pop()
      self.decks[deck_name].insert(self.random.randint(0, len(self.decks[deck_name])), index)

  def _own(self, table):
    """The rows this split may use: the last quarter of a name list never occurs in train."""
    rows = self.tables.rows[table]
    cut = len(rows) * 3 // 4
    return rows[:cut] if self.split == "train" else rows[cut:]

  def _like(self, base, rows):
    """The rows that agree with the row of slot `base` as %near asks, or all where there is no other."""
    column = self.tables.near.get(base)
    first = self.bound.get(base)
    if not column or not first:
      return rows
    like = [row for row in rows if row[column] == first[column] and row["name"] != first["name"]]
    return like if len(like) > 1 else rows

  def _slot(self, body):
    match = re.fullmatch(r"([nd]|money|year):([\d.]+)-([\d.]+)", body)
    if match:
      return self._number(*match.groups())
    if body == "date":
      month = self.random.choice(self.tables.rows["month"])["name"]
      return f"{month} {self.random.randint(1, 28)}, {self.random.randint(1987, 2019)}"
    det, _, path = body.rpartition(" ")
    key, *columns = path.split(".")
    value = self._value(key[:1].lower() + key[1:], columns)
    if det == "the":
      return re.sub(r"^an? ", "the ", value)
    if det.lower() == "a":
      return f"{article(value) if det == 'a' else article(value).capitalize()} {value}"
    return capitalised(value) if key[0].isupper() else value

  def _number(self, kind, low, high):
    if kind == "d":
      digits = len(low.split(".")[1])
      return f"{self.random.uniform(float(low), float(high)):.{digits}f}"
    value = self.random.randint(int(low), int(high))
    if kind == "money":
      step = 10 ** max(0, len(str(value)) - 2)
      return f"${value // step * step:,}"
    return str(value) if kind == "year" else f"{value:,}"

  def _value(self, key, columns):
    row = self.bound.get(key) or self._draw(key)
    table = row["_table"]
    for column in columns[:-1]:  # a cell that names a row of the table called like its column
      row, table = self.tables.row(column, row[column]), column
    column = columns[-1] if columns else "name"
    if table == "lab" and column in ("above", "below", "within"):
      return self._reading(row, column)
    if column not in row:
      raise TemplateError(f"{table} has no column {column!r} (slot {key})")
    return row[column]

  def _draw(self, key):
    base = key.rstrip("0123456789")
    table = self.tables.roles.get(base, base)
    for _ in range(50):
      if table == "person":
        row = self._person()
      elif table == "company":
        row = self._company()
      elif table == "party":
        row = self._person() if self.random.random() < 0.5 else self._company()
      elif table not in self.tables.rows:
        raise TemplateError(f"unknown slot {key!r}")
      else:
        rows = self._own(table) if table in ("town", "surname") else self.tables.rows[table]
        row = self.random.choice(self._like(base, rows)) if key != base else self.deal("row " + table, rows)
      # Persons are told apart by last name, so no two in a document share one.
      identity = (table if "last" not in row else "last", row.get("last", row["name"]))
      if identity not in self.names:
        break
    self.names.add(identity)
    self.bound[key] = {**row, "_table": table}
    return self.bound[key]

  def _person(self):
    sex = self.random.choice("fm")
    first = self.deal("row first_" + sex, self.tables.rows["first_" + sex])["name"]
    last = self.deal("row surname", self._own("surname"))["name"]
    return self._with_pronouns(sex, {"name": f"{first} {last}", "first": first, "last": last,
                                     "short": last, "age": str(self.random.randint(52, 84))})

  def _company(self):
    head = self.deal("row surname", self._own("surname"))["name"]
    tail = self.deal("row trade", self.tables.rows["trade"])["name"]
    form = self.random.choice(("Company", "Corporation", "Incorporated", "Limited"))
    return self._with_pronouns("n", {"name": f"{head} {tail} {form}", "first": head, "last": head,
                                     "short": f"{head} {tail}", "age": "12"})

  def _with_pronouns(self, sex, row):
    he, him, his, himself, man, title = PRONOUNS[sex]
    row.update(he=he, him=him, his=his, himself=himself, man=man)
    row["titled"] = f"{title} {row['last']}".strip() if sex != "n" else row["short"]
    return row

  def _reading(self, lab, column):
    low, high = float(lab["lo"]), float(lab["hi"])
    digits = len(lab["hi"].partition(".")[2])
    spans = {"above": (high * 1.25, high * 2.2), "below": (low * 0.45, low * 0.85), "within": (low, high)}
    # Tightly held electrolytes: a doubled value would not be survived.
    if high / low < 1.6:
      spans.update(above=(high * 1.04, high * 1.14), below=(low * 0.86, low * 0.96))
    return f"{self.random.uniform(*spans[column]):.{digits}f}"


def read_templates(path):
  """The templates of one file as {kind: [template, ...]} in file order."""
  kinds, kind = {}, None
  for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
    line = line.strip()
    if line.startswith("== "):
      kind = line[3:].strip()
      kinds.setdefault(kind, [])
    elif line and not line.startswith("#"):
      if kind is None or line.count("{") != line.count("}") or line.count("[") != line.count("]"):
        raise TemplateError(f"{path.name}:{number}: no kind yet, or a bracket is not closed")
      kinds[kind].append(line)
  return kinds
