#!/usr/bin/env python3
"""Known mistakes of continual-learning code, put into a copy of Retain's sources one by one: does a test fail?

  mistakes.py [--only WORD ...] [--render]

The copy is built once, with every mistake behind a switch; without any all tests must pass. What the tests said is kept
in results.json, README.md is made from it. Standard library only.
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys

import catalogue

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TREE = ROOT / "runs/mistakes/tree"
SWIFT = ["-c", "release", "--manifest-cache", "none"]
# Suites that test methods; the others would only cost time.
SUITES = "ContinualTests|CurvatureTests|MergingTests|LedgerTests"

SWIFT_SWITCH = """import Glibc

/// Whether this process makes a mistake on purpose.
func made(_ mistake: String) -> Bool { chosen == mistake }
private let chosen = getenv("RETAIN_MISTAKE").map { String(cString: $0) } ?? ""
"""
C_SWITCH = """#include <stdlib.h>
#include <string.h>
static int made(const char *mistake) {
  const char *chosen = getenv("RETAIN_MISTAKE");
  return chosen && !strcmp(chosen, mistake);
}
"""


def fail(message):
    sys.exit(f"mistakes: {message}")


def changed(mistakes):
    """The tracked files as they are now, by name, with every mistake in them behind its switch."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    names = [name for name in listing.decode().split("\0") if name and (ROOT / name).is_file()]
    files = {name: (ROOT / name).read_bytes() for name in names}
    for mistake in mistakes:
        for file, old, new in mistake.changes:
            name = "Sources/" + file
            text = files[name].decode()
            if text.count(old) != 1:
                fail(f"{mistake.name}: {file} has {text.count(old)} times: {old.strip().splitlines()[0]}")
            text = text.replace(old, new)
            if file.endswith(".swift"):
                files[f"Sources/{file.split('/')[0]}/Mistake.swift"] = SWIFT_SWITCH.encode()
            elif not text.startswith(C_SWITCH):
                text = C_SWITCH + text
            files[name] = text.encode()
    return files


def write(files):
    """Makes the copy hold these files; what is the same keeps its date, so that it is not built again."""
    for folder in ("Sources", "Tests"):
        for path in (TREE / folder).rglob("*"):
            if path.is_file() and str(path.relative_to(TREE)) not in files:
                path.unlink()
    for name, content in files.items():
        path = TREE / name
        if path.is_file() and path.read_bytes() == content:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def swift(*arguments, mistake=""):
    environment = {**os.environ, "RETAIN_MISTAKE": mistake}
    return subprocess.run(
        ["swift", *arguments], cwd=TREE, env=environment, capture_output=True, text=True)


def test(mistake=""):
    """Names of the tests that fail, and whether the process came to its end."""
    found = swift("test", *SWIFT, "--skip-build", "--filter", SUITES, mistake=mistake)
    output = found.stdout + found.stderr
    failed = sorted(set(re.findall(r"Test (\w+)\(.*?\)(?: with \d+ test cases)? failed after", output)))
    ended = re.search(r"Test run with \d+ tests.* (?:passed|failed) after", output) is not None
    return failed, ended


def render(results):
    known = {result["mistake"]: result for result in results}
    rows = ["| method | mistake | seen in | test that fails | tests that fail in all |", "|---|---|---|---|---|"]
    for mistake in catalogue.ALL:
        result = known.get(mistake.name)
        if result:
            rows.append(
                f"| {mistake.method} | {mistake.title} | {mistake.seen or '–'} "
                f"| {'`' + mistake.test + '`' if mistake.test in result['failed'] else '**none**'} "
                f"| {len(result['failed'])}{'' if result['ended'] else ', then the process ends'} |")
    template = (HERE / "README.in").read_text()
    (HERE / "README.md").write_text(template.replace("@table", "\n".join(rows)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", nargs="*", default=[], help="mistakes whose names contain a word; the others keep their results")
    parser.add_argument("--render", action="store_true", help="write README.md from results.json, run nothing")
    options = parser.parse_args()
    path = HERE / "results.json"
    results = json.loads(path.read_text()) if path.exists() else []
    if not options.render:
        write(changed(catalogue.ALL))
        built = swift("build", *SWIFT, "--build-tests")
        if built.returncode != 0:
            fail("the copy does not build:\n" + (built.stdout + built.stderr)[-6000:])
        failed, ended = test()
        if failed or not ended:
            fail(f"without a mistake these tests fail: {', '.join(failed) or 'the process ended early'}")
        print("without a mistake: every test passes", flush=True)
        for mistake in catalogue.ALL:
            if options.only and not any(word in mistake.name for word in options.only):
                continue
            failed, ended = test(mistake.name)
            results = [result for result in results if result["mistake"] != mistake.name]
            results.append({"mistake": mistake.name, "failed": failed, "ended": ended})
            seen = "red" if mistake.test in failed else "NOT SEEN"
            print(f"{mistake.name}: {seen}; {', '.join(failed)}{'' if ended else '; the process ended'}", flush=True)
            order = [other.name for other in catalogue.ALL]
            results = sorted((r for r in results if r["mistake"] in order), key=lambda r: order.index(r["mistake"]))
            path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    render(results)
    failed = {result["mistake"]: result["failed"] for result in results}
    unseen = [mistake.name for mistake in catalogue.ALL if mistake.test not in failed.get(mistake.name, [])]
    if unseen:
        fail(f"no test sees {', '.join(unseen)}")


if __name__ == "__main__":
    main()
