#!/usr/bin/env python3
"""Verifies a pack of Sluice's event log, with nothing of Sluice: docs/AUDIT-FORMAT.md is all it knows.

    python3 verify_pack.py --key KEY [--checkpoints FILE] PACK

KEY is a public key or a file that holds one; it has to come from somewhere else than the pack. Needs Python 3.9 and the
package `cryptography` for Ed25519. Exit status: 0 if everything holds, 1 if anything does not, 2 for wrong usage.
"""
import argparse
import base64
import hashlib
import json
import os
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

found = []


def say(kind, place, what):
    found.append(kind)
    print(f"{kind} at {place}: {what}" if place is not None else f"{kind}: {what}")


def read_key(text):
    """A line NAME+ID+KEY: the name, the id, and the 32 bytes of an Ed25519 key."""
    if os.path.isfile(text):
        with open(text, encoding="utf-8") as file:
            text = file.read()
    name, key_id, key = text.strip().split("+", 2)
    key = base64.b64decode(key, validate=True)
    if len(key) != 33 or key[0] != 1:
        raise ValueError("only Ed25519 keys are known")
    if hashlib.sha256(name.encode() + b"\n" + key).digest()[:4].hex() != key_id:
        raise ValueError("the id is not that of the key")
    return name, bytes.fromhex(key_id), key[1:]


def read_note(note):
    """A note: the signed text, and its signatures as (name, id, signature)."""
    text, signatures = note[: note.rindex("\n\n") + 1], note[note.rindex("\n\n") + 2 :]
    read = []
    for line in signatures.splitlines():
        dash, name, value = line.split(" ")
        if dash != "\u2014":
            raise ValueError("a line of signatures begins with a dash")
        value = base64.b64decode(value, validate=True)
        read.append((name, value[:4], value[4:]))
    return text, read


def is_signed(note, key):
    """Whether a key signed a note; none if the note does not name it."""
    text, signatures = read_note(note)
    for name, key_id, signature in signatures:
        if (name, key_id) == key[:2]:
            try:
                Ed25519PublicKey.from_public_bytes(key[2]).verify(signature, text.encode())
                return True
            except InvalidSignature:
                return False
    return None


def follow(keys, rotations):
    """Adds the keys that trusted ones hand over to, or were handed over from."""
    limits = {}
    grown = True
    while grown:
        grown = False
        for note in rotations:
            lines = read_note(note)[0].splitlines()
            if len(lines) != 5 or lines[0] != "sluice key rotation v1":
                say("swapped_key", None, "a rotation is none")
                continue
            old, new = read_key(lines[1]), read_key(lines[2])
            if old[0] != new[0] or not is_signed(note, old) or not is_signed(note, new):
                say("swapped_key", None, "a rotation is not signed by both keys")
                continue
            limits[old] = min(limits.get(old, int(lines[3])), int(lines[3]))
            for one, other in ((old, new), (new, old)):
                if one in keys and other not in keys:
                    keys.append(other)
                    grown = True
    return limits


def read_checkpoint(note):
    """Origin, size and root of a checkpoint."""
    lines = read_note(note)[0].splitlines()
    root = base64.b64decode(lines[2], validate=True)
    if not lines[0] or str(int(lines[1])) != lines[1] or len(root) != 32:
        raise ValueError("it is no checkpoint")
    return lines[0], int(lines[1]), root


def netstring(text):
    data = text.encode()
    return str(len(data)).encode() + b":" + data + b","


FIELDS = ("stream", "version", "event_id", "event_type", "occurred_at", "recorded_at", "actor_kind", "actor_id",
          "correlation_id", "causation_id", "reason")


def leaf_of(event):
    header = b"sluice/event/v1\n"
    for field in FIELDS:
        header += netstring("" if event[field] is None else str(event[field]))
    return hashlib.sha256(b"\0" + header + bytes.fromhex(event["commitment"])).digest()


def node(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


def root_of(low, high, leaves, subtrees):
    """The root over the leaves from low to high; none where one is missing."""
    if (low, high) in subtrees:
        return subtrees[(low, high)]
    if high - low == 1:
        return leaves.get(low)
    middle = low + (1 << ((high - low - 1).bit_length() - 1))
    left, right = root_of(low, middle, leaves, subtrees), root_of(middle, high, leaves, subtrees)
    if not left or not right:
        return None
    subtrees[(low, high)] = node(left, right)
    return subtrees[(low, high)]


def lines_of(pack, name):
    path = os.path.join(pack, name)
    if os.path.exists(path):
        with open(path, encoding="utf-8", newline="\n") as file:
            for line in file:
                yield json.loads(line)


def read_events(pack):
    """The leaves by number; says what is wrong with events by themselves."""
    leaves, last = {}, -1
    for event in lines_of(pack, "events.ndjson"):
        index, place = event["index"], f"position {event['position']} (event {event['version']} of {event['stream']})"
        if event["payload"] is not None:
            committed = hashlib.sha256(bytes.fromhex(event["salt"]) + event["payload"].encode()).hexdigest()
            if committed != event["commitment"]:
                say("payload_changed", place, "the payload is not the one that was committed to")
        leaf = leaf_of(event)
        if leaf.hex() != event["leaf"]:
            say("event_changed", place, "its header or its commitment is another than was exported")
        if index in leaves:
            say("inserted", place, f"there are two events with the number {index}")
        elif index < last:
            say("reordered", place, f"number {index} stands behind number {last}")
        leaves[index] = leaf
        last = max(last, index)
    return leaves


def read_claims(files, pack):
    """Notes of checkpoints, each with where it comes from."""
    claims = [(line["note"], None) for line in lines_of(pack, "checkpoints.ndjson")]
    for path in files:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        notes = [json.loads(line)["note"] for line in text.splitlines()] if text.startswith("{") else [text]
        claims += [(note, path) for note in notes]
    return claims


def judge(claims, keys, limits):
    """Checkpoints that a trusted key signed, as (size, root, where from)."""
    good = []
    for note, path in claims:
        try:
            _, size, root = read_checkpoint(note)
            signed = [(is_signed(note, key), key) for key in keys]
        except (ValueError, IndexError) as problem:
            say("forged_checkpoint", None, f"a checkpoint cannot be read: {problem}")
            continue
        if any(is_good and size <= limits.get(key, size) for is_good, key in signed):
            good.append((size, root, path))
        elif any(is_good is False for is_good, _ in signed):
            say("forged_checkpoint", f"size {size}", "it is not signed by the key that it names")
        else:
            say("swapped_key", f"size {size}", "it is signed by no key that is trusted")
    return sorted(good, key=lambda one: (one[0], one[2] or ""))


def compare(good, leaves, subtrees, manifest):
    """Holds the checkpoints against the events."""
    size, held = manifest["size"], 0
    known = dict.fromkeys(leaves)
    missing = [number for number in range(size) if number not in known] if manifest["whole"] else []
    tail = missing and missing[-1] == size - 1
    while tail and len(missing) > 1 and missing[-2] == missing[-1] - 1:
        missing.pop()
    if tail:
        say("truncated", f"number {missing.pop()}", f"the pack ends before the checkpoint of {size} events does")
    for number in missing:
        say("deleted", f"number {number}", "no event has this number")
    for number, (one_size, root, path) in enumerate(good):
        ours = root_of(0, one_size, leaves, subtrees) if one_size and one_size <= size else None
        others = [other for other in good[:number] if other[0] == one_size and other[1] != root]
        if others:
            say("split_view", f"size {one_size}", "the key signed two roots for it")
        elif ours == root:
            held += 1
        elif one_size > size:
            if path:
                say("truncated", f"size {one_size}", f"{path} shows a checkpoint of more events")
        elif ours is not None and path and any(s >= one_size and root_of(0, s, leaves, subtrees) == r for s, r, p in good if not p):
            say("split_view", f"size {one_size}", f"{path} shows another log, signed by the same key")
        elif ours is not None or one_size == size:
            if not found and ours is None:
                say("deleted", f"size {one_size}", "an event that was exported is missing")
            elif not found:
                say("rewritten", f"size {one_size}", "the events are not those that were signed")
    return held


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--key", action="append", required=True, help="a public key, or a file with one")
    parser.add_argument("--checkpoints", action="append", default=[], help="checkpoints from elsewhere")
    parser.add_argument("pack", help="the folder of the pack")
    options = parser.parse_args()
    try:
        keys = [read_key(text) for text in options.key]
        with open(os.path.join(options.pack, "manifest.json"), encoding="utf-8") as file:
            manifest = json.load(file)
        if manifest["format"] != "sluice-pack/1":
            raise ValueError(f"the format {manifest['format']} is not known")
    except (OSError, ValueError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    leaves = read_events(options.pack)
    subtrees = {(part["from"], part["to"]): bytes.fromhex(part["hash"]) for part in lines_of(options.pack, "subtrees.ndjson")}
    limits = follow(keys, [line["note"] for line in lines_of(options.pack, "rotations.ndjson")])
    good = judge(read_claims(options.checkpoints, options.pack), keys, limits)
    held = compare(good, leaves, subtrees, manifest)
    if not any(size == manifest["size"] for size, _, path in good if path is None):
        say("truncated", None, f"the checkpoint of {manifest['size']} events that the pack is proved against is missing")
    for name, digest in manifest["files"].items():
        with open(os.path.join(options.pack, name), "rb") as file:
            if hashlib.sha256(file.read()).hexdigest() != digest:
                say("file_changed", name, "it is not the file that was exported")
    if found:
        return 1
    print(f"{len(leaves)} events: {held} checkpoints hold, the newest of {manifest['size']} events")
    return 0


if __name__ == "__main__":
    sys.setrecursionlimit(10_000)
    sys.exit(main())
