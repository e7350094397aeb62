"""A sitting: one JSON file of readings, added to as they come. Needs nothing but Python.

  readings.py SITTING has PART CASE SIDE REPEAT             succeeds where the reading is there
  readings.py SITTING complete PART CASE SIDE...            succeeds where each side has a reading
  readings.py SITTING add PART CASE SIDE REPEAT LOAD CODE OUTPUT ERRORS
  readings.py SITTING drop PART                             forgets a part's readings
  readings.py SITTING note TEXT                             keeps a remark, once
  readings.py SITTING machine RETAIN THREADS                describes the machine; notes what changed
  readings.py - timed COMMAND...                            runs a command, prints its seconds and peak memory
"""
import json
import os
import platform
import resource
import subprocess
import sys
import time


def load(path):
    if os.path.exists(path):
        with open(path) as file:
            return json.load(file)
    return dict(schema=1, machine=None, notes=[], readings=[])


def save(path, sitting):
    """In one piece or not at all."""
    with open(path + ".new", "w") as file:
        json.dump(sitting, file, indent=1)
    os.replace(path + ".new", path)


def find(sitting, part, case, side=None, repeat=None):
    return [r for r in sitting["readings"] if r["part"] == part and r["case"] == case
            and side in (None, r["side"]) and repeat in (None, r["repeat"]) and r["result"] is not None]


def add(sitting, part, case, side, repeat, load_average, code, output, errors):
    failure = None
    try:
        result = json.load(open(output)) if code == "0" else None
    except ValueError:
        result = None
    if result is None:
        tail = [line for line in open(errors, errors="replace").read().splitlines() if line.strip()][-3:]
        failure = f"exit {code}: " + " | ".join(tail)
    sitting["readings"] = [r for r in sitting["readings"]
                           if (r["part"], r["case"], r["side"], r["repeat"]) != (part, case, side, int(repeat))]
    sitting["readings"].append(dict(
        part=part, case=case, side=side, repeat=int(repeat), time=time.strftime("%Y-%m-%dT%H:%M:%S"),
        load_before=float(load_average), failure=failure, result=result))
    seconds = result.get("seconds_per_step") if result else None
    print(f"{part}, {case}, {side}, {repeat}: " + (failure or (f"{seconds:.4g} s" if seconds else "done")),
          file=sys.stderr)


def machine(retain, threads):
    def first(pattern):
        with open("/proc/cpuinfo") as file:
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith(pattern)), "")

    def said(*command):
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip()
        except (OSError, subprocess.TimeoutExpired):
            return ""

    wanted = {"avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "avx512_vnni"}
    here = os.path.dirname(os.path.abspath(__file__))
    return dict(
        cpu=first("model name"), family=first("cpu family"), model=first("model\t"),
        features=sorted(wanted & set(first("flags").split())), processors=os.cpu_count(), threads=int(threads),
        memory_mb=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20, kernel=platform.release(),
        retain=said(retain, "--version"), commit=said("git", "-C", here, "rev-parse", "--short", "HEAD"),
        python=platform.python_version(), date=time.strftime("%Y-%m-%d"))


def timed(command):
    begun = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
    print(json.dumps(dict(seconds_per_step=seconds, peak_rss_mb=peak)))
    return done.returncode


def main():
    path, verb, *rest = sys.argv[1:]
    if verb == "timed":
        sys.exit(timed(rest))
    sitting = load(path)
    if verb == "has":
        part, case, side, repeat = rest
        sys.exit(0 if find(sitting, part, case, side, int(repeat)) else 1)
    if verb == "complete":
        part, case, *sides = rest
        sys.exit(0 if all(find(sitting, part, case, side) for side in sides) else 1)
    if verb == "add":
        add(sitting, *rest)
    elif verb == "drop":
        sitting["readings"] = [r for r in sitting["readings"] if r["part"] != rest[0]]
    elif verb == "note":
        if rest[0] in sitting["notes"]:
            return
        sitting["notes"].append(rest[0])
        print(rest[0], file=sys.stderr)
    elif verb == "machine":
        now, first = machine(*rest), sitting["machine"]
        if first:
            changed = [key for key in ("cpu", "processors", "threads", "retain", "commit") if now[key] != first[key]]
            text = "continued with another " + ", ".join(f"{key}: {now[key]}" for key in changed)
            if not changed or text in sitting["notes"]:
                return
            sitting["notes"].append(text)
        else:
            sitting["machine"] = now
    else:
        sys.exit(__doc__)
    save(path, sitting)


if __name__ == "__main__":
    main()
