#!/usr/bin/env python3
"""Answers drawn at random along the masks of JSON schemas are valid, says Python's jsonschema, every one of them.

Usage: grammar.py BUILD/solvent [SCHEMAS] [SEED]. Makes schemas of all kinds from a seed (nested, recursive, merged, with
patterns, formats, bounds) and draws answers for each with the vocabulary of SmolLM2 where the user's store has it, else
with a tiny one; then schemas that must be refused, by the name of what is not supported. Regular expressions and GBNF:
what is drawn matches. Prints a line for each failure and ends with "N passed, N failed"."""
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
if __name__ == "__main__" and "GRAMMAR_VENV" not in os.environ:  # jsonschema is a package of the checkout's .venv
    os.environ["GRAMMAR_VENV"] = "1"
    run = str(HERE.parent / "golden/run")
    os.execv(run, [run, "../e2e/grammar.py", *sys.argv[1:]])

import jsonschema

STORE = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "solvent/models"
WORDS = ["name", "id", "tags", "größe", "a b", "quo\"te", "back\\slash", "x", "y", "日本", "new\nline", "type", "é", "no"]
PATTERNS = ["^[a-z]+$", "^[A-Z]{2}\\d{3,5}$", "ab?c", "^(?:foo|bar)-\\d+$", "^\\w+@\\w+\\.com$", "[^a-z]", "^[\\u00e0-\\u00ff]{1,3}$",
            "^$|^x", "^a?\\\\", "^\"q\"$", "^(a|b(c|d)*)+?$", "^.{0,4}$", "^[^\\n\"]{0,9}end$", "^[\\u4e00-\\u9fff\\U0001F600]*$".replace(
                "\\U0001F600", "\U0001F600"), "^\\t\\x41[\\]\\-^]*$", "\\s\\S"]
FORMATS = ["date", "time", "date-time", "uuid", "ipv4", "email"]


class Maker:
    """A random schema, satisfiable by how it is made."""

    def __init__(self, seed):
        self.r = random.Random(seed)
        self.defs = {}

    def root(self):
        self.defs = {}
        if self.r.random() < 0.25:
            self.recursive()
        schema = self.schema(0)
        if schema is True:
            return schema
        if self.defs:
            schema = dict(schema, **{self.r.choice(["$defs", "definitions"]): None})
            where = "$defs" if "$defs" in schema else "definitions"
            schema[where] = self.defs
            schema = json.loads(json.dumps(schema).replace("#/DEFS/", f"#/{where}/"))
        if self.r.random() < 0.3:
            schema = dict({"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "t", "description": "not \"type\"",
                           "default": {"not": 1}, "examples": [1], "$comment": "c", "deprecated": False, "x-mine": 1}, **schema)
        return schema

    def recursive(self):
        """A list, a tree or a pair of schemas that call each other."""
        r, kind = self.r, self.r.randrange(4)
        if kind == 0:
            self.defs["node"] = {"type": "object", "properties": {"v": self.leaf(), "next": {"anyOf": [
                {"$ref": "#/DEFS/node"}, {"type": "null"}]}}, "required": ["v", "next"], "additionalProperties": False}
        elif kind == 1:
            self.defs["node"] = {"type": "object", "properties": {"kids": {"type": "array", "items": {
                "$ref": "#/DEFS/node"}, "maxItems": r.randrange(1, 3)}}, "required": r.choice([[], ["kids"]])}
        elif kind == 2:
            self.defs["node"] = {"type": "array", "items": {"$ref": "#/DEFS/other"}, "maxItems": 2}
            self.defs["other"] = {"anyOf": [self.leaf(), {"$ref": "#/DEFS/node"}]}
        else:
            self.defs["node"] = {"allOf": [{"$ref": "#/DEFS/base"}, {"properties": {"left": {"$ref": "#/DEFS/node"}, "n": {
                "minimum": 2}}}]}
            self.defs["base"] = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}

    def schema(self, depth):
        r = self.r
        if self.defs and r.random() < 0.3:
            return {"$ref": "#/DEFS/node"}
        if depth > 3 or r.random() < 0.35:
            return self.leaf()
        return r.choice([self.object, self.object, self.object, self.array, self.array, self.any_of, self.one_of, self.all_of,
                         self.tuple, self.tagged])(depth + 1)

    def leaf(self):
        r = self.r
        return r.choice([self.string, self.string, self.number, self.number, self.enum, lambda: {"type": "boolean"}, lambda: {
            "type": "null"}, lambda: {"const": self.value(0)}, lambda: {"type": r.sample(["string", "integer", "null", "boolean"],
                                                                                         2)}, lambda: r.choice([{}, True])])()

    def value(self, depth):
        r = self.r
        return r.choice([lambda: r.choice(WORDS), lambda: r.randrange(-99, 99), lambda: r.random() * 10 ** r.randrange(-9, 9), lambda:
                         None, lambda: True, lambda: [self.value(depth + 1) for _ in range(r.randrange(3))] if depth < 2 else 0,
                         lambda: {w: self.value(depth + 1) for w in r.sample(WORDS, r.randrange(3))} if depth < 2 else ""])()

    def enum(self):
        values = [self.value(0) for _ in range(self.r.randrange(1, 9))]
        return self.r.choice([{"enum": values}, {"enum": self.r.sample(WORDS, 5), "type": "string"}])

    def string(self):
        r = self.r
        low = r.randrange(0, 5)
        return dict({"type": "string"}, **r.choice([{}, {"minLength": low}, {"maxLength": low + 3}, {"minLength": low,
                    "maxLength": low + r.randrange(300)}, {"pattern": r.choice(PATTERNS)}, {"pattern": r.choice(PATTERNS)},
                    {"format": r.choice(FORMATS)}, {"format": "hostname-of-ours"}]))

    def number(self):
        r = self.r
        kind = r.choice(["integer", "number"])
        digits = r.randrange(0, 5) if kind == "number" else 0
        a, b = sorted(round(r.uniform(-1, 1) * 10 ** r.randrange(0, 7), digits) for _ in range(2))
        if kind == "integer" or r.random() < 0.3:
            a, b = int(a), int(b)
        s = {"type": kind}
        if r.random() < 0.7:
            s[r.choice(["minimum", "exclusiveMinimum"])] = a
        if r.random() < 0.7:
            s[r.choice(["maximum", "exclusiveMaximum"])] = b + 3
        if kind == "integer" and r.random() < 0.1:
            s["multipleOf"] = 1
        return s

    def object(self, depth):
        r = self.r
        keys = r.sample(WORDS, r.randrange(0, 6))
        s = {"type": "object", "properties": {k: self.schema(depth) for k in keys}}
        if r.random() < 0.8:
            s["required"] = [k for k in keys if r.random() < 0.6]
        more = r.random()
        if more < 0.4:
            s["additionalProperties"] = False
        elif more < 0.55:
            s["additionalProperties"] = r.choice([True, self.leaf()])
        elif more < 0.65:
            s["required"] = s.get("required", []) + ["zusatz"]
        elif more < 0.7:
            s["minProperties"] = len(s.get("required", []))
        if r.random() < 0.1:
            del s["type"]
            s["type"] = ["object", "null"]
        return s

    def array(self, depth):
        r = self.r
        s = {"type": "array", "items": self.schema(depth)}
        low = r.randrange(3)
        if r.random() < 0.4:
            s["minItems"] = low
        if r.random() < 0.6:
            s["maxItems"] = low + r.randrange(3)
        return s

    def tuple(self, depth):
        r = self.r
        s = {"type": "array", "prefixItems": [self.schema(depth) for _ in range(r.randrange(1, 4))]}
        if r.random() < 0.5:
            s["items"] = r.choice([False, self.leaf()])
        if r.random() < 0.5:
            s["minItems"] = r.randrange(0, len(s["prefixItems"]) + 1)
        if r.random() < 0.3:
            s["maxItems"] = max(s.get("minItems", 0), r.randrange(1, 5))
        return s

    def any_of(self, depth):
        s = {"anyOf": [self.schema(depth) for _ in range(self.r.randrange(1, 4))]}
        if self.r.random() < 0.2:  # beside others: each branch is merged with them
            s = {"type": "object", "properties": {"k": {"type": "integer"}}, "anyOf": [
                {"required": ["k"]}, {"properties": {"l": self.leaf()}, "required": ["l"]}]}
        return s

    def one_of(self, depth):
        r = self.r
        return {"oneOf": r.sample([{"type": "integer", "minimum": 5}, {"type": "string", "maxLength": 4}, {"type": "null"},
                                   {"type": "array", "items": self.leaf(), "maxItems": 2}, {"const": True}, {"const": False}], 3)}

    def tagged(self, depth):
        kinds = self.r.sample(WORDS, 3)
        return {"oneOf": [{"type": "object", "properties": {"kind": {"const": k}, "v": self.leaf()}, "required": [
            "kind", "v"]} for k in kinds]}

    def all_of(self, depth):
        r = self.r
        low = r.randrange(9)
        return r.choice([
            lambda: {"allOf": [{"type": "object", "properties": {"a": self.leaf()}, "required": ["a"]}, {
                "properties": {"b": self.leaf()}, "required": ["b"]}]},
            lambda: {"allOf": [{"type": "integer", "minimum": low}, {"maximum": low + 5}, {"type": ["number", "string"]}]},
            lambda: {"allOf": [{"enum": WORDS[:6]}, {"enum": WORDS[3:9]}]},
            lambda: {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}}}, "allOf": [
                {"properties": {"a": {"maxItems": 3, "items": {"minimum": 0}}}, "required": ["a"]}]},
        ])()


REFUSED = {
    "not": {"not": {"type": "null"}}, "if": {"if": {}, "then": {}}, "patternProperties": {"patternProperties": {"a": {}}},
    "propertyNames": {"type": "object", "propertyNames": {"maxLength": 2}}, "contains": {"contains": {}},
    "uniqueItems": {"type": "array", "uniqueItems": True}, "multipleOf": {"type": "number", "multipleOf": 0.5},
    "dependentRequired": {"dependentRequired": {"a": ["b"]}}, "dependentSchemas": {"dependentSchemas": {}},
    "unevaluatedProperties": {"unevaluatedProperties": False}, "unevaluatedItems": {"unevaluatedItems": False},
    "oneOf": {"oneOf": [{"type": "integer"}, {"type": "number"}]}, "minProperties": {"type": "object", "minProperties": 2},
    "maxProperties": {"type": "object", "maxProperties": 2}, "$ref": {"$ref": "https://example.com/s"},
    "$dynamicRef": {"$dynamicRef": "#a"}, "pattern": {"pattern": "a", "minLength": 3}, "enum": {"enum": [5], "minimum": 3},
    "back-reference": {"pattern": "(a)\\1"}, "look-ahead": {"pattern": "(?=a)b"}, "look-behind": {"pattern": "(?<!a)b"},
    "\\b": {"pattern": "a\\b"}, "\\p": {"pattern": "\\p{L}"}, "dependencies": {"dependencies": {"a": ["b"]}},
    "minContains": {"minContains": 1}, "else": {"else": {}}, "$id": {"items": {"$id": "x"}},
}
REGEXES = ["[a-z]+\\d{2,4}", "(?:yes|no)( maybe)?", "[^\\x00-\\x7f]{2}", "(a*b){3}", "^\\w+[ \\t]\\S$", "é|日+?", "[\\d\\-x]+", "(x|(y|z)+)*w"]
GBNF = [('root ::= item ("," item)* # c\\nitem ::= [0-9]{1,3} | "\\"" [^"\\\\] "\\""', r'(?s)(\d{1,3}|"[^"\\]")(,(\d{1,3}|"[^"\\]"))*'),
        ('root ::= "a" root "b" | "\\u00e9"', "a*éb*"), ("root ::= (\\n  x |\\n y )+\\nx ::= [a-c]\\ny ::= .", "(?s).+")]


class Check:
    def __init__(self, walk, model):
        self.walk, self.model = walk, model
        self.passed = self.failed = 0

    def ok(self, good, text):
        self.passed += bool(good)
        self.failed += not good
        if not good:
            print("FAIL", text[:1000])

    def run(self, kind, answers, seed, lines):
        """For each line the answers, or why it was refused."""
        lines = list(lines)
        p = subprocess.run([self.walk, self.model, kind, str(answers), str(seed)], input="\n".join(lines) + "\n",
                           capture_output=True, text=True, encoding="utf-8", errors="strict")
        self.ok(p.returncode == 0, f"{kind}: {p.stderr}")
        print(f"{kind}: {p.stderr.strip()}")
        results = []
        for line in p.stdout.split("\n")[:-1]:
            if line == "ok" or line.startswith("refused: "):
                results.append([] if line == "ok" else line)
            else:
                results[-1].append(line)
        self.ok(len(results) == len(lines), f"{kind}: {len(results)} results of {len(lines)}")
        return results



def check_schema(check, schema, result):
    if isinstance(result, str):
        check.ok(False, f"{result} {json.dumps(schema, ensure_ascii=False)}")
        return
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    for line in result:
        state, _, text = line.partition("\t")
        try:
            wrong = [e.message for e in validator.iter_errors(json.loads(text))] if not state else [state]
        except ValueError as e:
            wrong = [str(e)]
        check.ok(not wrong, f"{str(wrong[:1])[-150:]} {text[:200]} {json.dumps(schema, ensure_ascii=False)}")


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    walk = Path(sys.argv[1]).resolve().parent / "tests/grammar_walk"
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 500
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    small = STORE / "smollm2-135m.gguf"
    check = Check(walk, small if small.exists() else HERE.parent / "data/golden/llama_q4_0.gguf")
    schemas = [Maker(seed * 1000003 + i).root() for i in range(count)]
    for schema, result in zip(schemas, check.run("schema", 4, seed, map(json.dumps, schemas))):
        check_schema(check, schema, result)
    for (key, schema), result in zip(REFUSED.items(), check.run("schema", 1, seed, map(json.dumps, REFUSED.values()))):
        check.ok(isinstance(result, str) and key in result, f"{key}: {result}")
    for pattern, result in zip(REGEXES, check.run("regex", 5, seed, REGEXES)):
        for line in result:
            check.ok(line[0] == "\t" and re.fullmatch(pattern.strip("^$"), line[1:]), f"{pattern}: {line}")
    for (grammar, pattern), result in zip(GBNF, check.run("gbnf", 5, seed, [g for g, _ in GBNF])):
        for line in result:
            check.ok(line[0] == "\t" and re.fullmatch(pattern, line[1:]), f"{grammar}: {line}")
    print(f"{check.passed} passed, {check.failed} failed")
    return 1 if check.failed else 0


if __name__ == "__main__":
    sys.exit(main())
