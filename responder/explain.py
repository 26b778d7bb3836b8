"""Does every value a report cites stand in its raw files, and what did each claim of each cause come to?

The folder is read again: the file's hash against the manifest's, the value against what the report said.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from responder.capture.step import Step
from responder.claims import Facts, evaluate_clause, evaluate_test, looks_of
from responder.config import Config
from responder.content import load
from responder.folder import IncidentFolder
from responder.model import Cause, Content, Fact, Hypothesis, Report, Test, Truth
from responder.replay import replay
from responder.report import to_json
from responder.report_facts import source
from responder.report_words import named, phrase, plain
from responder.words import ENGLISH, Language, say, speaking

DISPROOF = "disproof-"
"""How the claims are called that would rule a cause out."""
APART = "apart-"
"""And those that tell it from its look-alikes."""


def explained(
    path: Path, steps: Mapping[str, Step], only: str | None = None, language: Language = ENGLISH
) -> dict[str, Any]:
    """Every cited fact (or the one named) and every hypothesis with its claims; the title is in `language`.
    NotAnIncident when unreadable."""
    folder = IncidentFolder(path)
    content = _content(folder, steps)
    report = replay(path, steps, content)
    again, told = json.loads(to_json(report, language)), _told(folder)
    manifest = {entry["evidence"]["id"]: entry for entry in folder.read_json("manifest.json")["evidence"]}
    cited: dict[tuple[str, str], tuple[Fact, list[str]]] = {}
    for hypothesis in report.verdict.hypotheses:
        for finding in (*hypothesis.supports, *hypothesis.contradicts):
            for fact in finding.facts:
                where = source(report, fact)
                key = (fact.name, where.id if where else fact.step)
                cited.setdefault(key, (fact, []))[1].append(f"{hypothesis.cause}.{finding.weight}")
    facts = [
        _fact(folder, report, fact, evidence, by, manifest, told)
        for (name, evidence), (fact, by) in sorted(cited.items())
        if only is None or name == only
    ]
    causes = {cause.id: cause for cause in content.causes}
    weighed = set(folder.read_json("manifest.json")["weighed"])
    looks = looks_of([item for item in report.evidence if item.id in weighed])
    shown = [_hypothesis(h, causes.get(h.cause), looks, only) for h in report.verdict.hypotheses]
    return {"incident": report.incident.id, "title": again["title"], "facts": facts, "hypotheses": shown}


def _content(folder: IncidentFolder, steps: Mapping[str, Step]) -> Content:
    """What was in force; a folder that does not hold it is read with today's."""
    try:
        return Content.model_validate(folder.read_json("content.json"))
    except (OSError, ValueError):
        return load(Config(), steps)


def _told(folder: IncidentFolder) -> dict[tuple[str, str], Any]:
    """(fact, evidence) -> the value the stored report gave."""
    try:
        rows = folder.read_json("report.json")["hypotheses"]
        entries = [entry for row in rows for entry in (*row["for"], *row["against"])]
        return {(entry["fact"], entry["evidence"]): entry["value"] for entry in entries}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _fact(
    folder: IncidentFolder, report: Report, fact: Fact, evidence: str, by: Sequence[str],
    manifest: Mapping[str, Any], told: Mapping[tuple[str, str], Any],
) -> dict[str, Any]:  # fmt: skip
    entry = manifest.get(evidence, {})
    name = fact.file
    raw = folder.read_raw(evidence).get(name)
    wanted, found = entry.get("sha256", {}).get(name), hashlib.sha256(raw).hexdigest() if raw is not None else None
    value = fact.value if fact.value == fact.value else None
    said = told.get((fact.name, evidence), value)
    return {
        "fact": fact.name,
        "value": value,
        "unit": fact.unit,
        "told": said,
        "same": said == value,
        "evidence": evidence,
        "step": fact.step,
        "file": f"raw/{evidence}/{name}" if name else "",
        "sha256": found,
        # What is worked out from no single file is worked out from all of its step's: these are checked one by one.
        "intact": found == wanted if name else _all_intact(folder, evidence, entry.get("sha256", {})),
        "cited_by": sorted(set(by)),
    }


def _all_intact(folder: IncidentFolder, evidence: str, hashes: Mapping[str, str]) -> bool:
    files = folder.read_raw(evidence)
    return all(hashlib.sha256(files.get(name, b"")).hexdigest() == digest for name, digest in hashes.items())


def _hypothesis(
    hypothesis: Hypothesis, cause: Cause | None, looks: Sequence[Facts], only: str | None
) -> dict[str, Any]:
    claims = [(weight.id, weight.says, weight.test) for weight in (cause.evidence if cause else ())] + [
        (f"{DISPROOF}{n}", "would rule it out", test) for n, test in enumerate(cause.disproved_by if cause else (), 1)
    ]
    claims += [(part.id, part.says, part.test) for part in (cause.beside if cause else ())]
    claims += [(f"{APART}{n}", part.says, part.test) for n, part in enumerate(cause.told_apart if cause else (), 1)]
    rows = [_claim(name, says, test, looks) for name, says, test in claims if only is None or _speaks_of(test, only)]
    return {
        "cause": hypothesis.cause,
        "status": hypothesis.status.value,
        "probability": hypothesis.probability,
        "proof": hypothesis.proof.value,
        "claims": rows,
    }


def _speaks_of(test: Test, fact: str) -> bool:
    return any(clause.fact == fact for clause in (*test.all, *test.any))


def _claim(name: str, says: str, test: Test, looks: Sequence[Facts]) -> dict[str, Any]:
    """The claim at the look that decided most in its favour, clause by clause."""
    order = {Truth.YES: 0, Truth.NO: 1, Truth.UNKNOWN: 2}
    truth, facts = min(((evaluate_test(test, look), look) for look in looks), key=lambda row: order[row[0]])
    clauses = [
        {
            "clause": f"{clause.fact} {clause.op} {json.dumps(clause.value)}",
            "truth": evaluate_clause(clause, facts).value,
            "value": facts[clause.fact].value if clause.fact in facts else None,
        }
        for clause in (*test.all, *test.any)
    ]
    return {"claim": name, "says": says, "truth": truth.value, "clauses": clauses}


def told(found: Mapping[str, Any], language: Language = ENGLISH) -> str:
    """The same for a terminal."""
    with speaking(language):
        return _lines(found)


def _lines(found: Mapping[str, Any]) -> str:
    lines = [plain(found["title"], 300), "", say("cli.explain.facts")]
    for row in found["facts"]:
        value = f"{json.dumps(row['value'])} {row['unit']}".strip()
        state = say("cli.explain.intact" if row["intact"] else "cli.explain.changed")
        again = say("cli.explain.same") if row["same"] else say("cli.explain.another", told=json.dumps(row["told"]))
        file = plain(row["file"] or row["evidence"], 160)
        lines.append(f"  {row['fact']} = {plain(value, 200)}")
        lines.append(say("cli.explain.file", file=file, state=state, again=again))
        lines.append(say("cli.explain.cited", by=", ".join(row["cited_by"])))
    for row in found["hypotheses"]:
        if row["claims"]:
            share = f"{100 * row['probability']:.1f} %"
            status, proof = named("status", row["status"]), say(f"cli.truth.{row['proof']}")
            lines += ["", say("cli.explain.cause", cause=row["cause"], status=status, share=share, proof=proof)]
            lines += [part for claim in row["claims"] for part in _claim_lines(claim)]
    return "\n".join(lines)


def _claim_lines(claim: Mapping[str, Any]) -> Iterable[str]:
    disproof = claim["claim"].startswith(DISPROOF)
    says = say("cli.explain.disproof") if disproof else phrase(claim["says"])
    yield f"  {_column(claim['truth'])}{claim['claim']}: {plain(says, 160)}"
    for clause in claim["clauses"]:
        value = say("cli.not_known") if clause["value"] is None else plain(json.dumps(clause["value"]), 120)
        yield f"            {_column(clause['truth'])}{clause['clause']}   ({value})"


def _column(truth: str) -> str:
    return f"{say(f'cli.truth.{truth}'):8}"
