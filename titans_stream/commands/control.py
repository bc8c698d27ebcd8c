"""Tell a running worker what to do, and see what is in force.

Messages go to the topic that the connector names with `control:`; the worker does as they say from
the next reading on, of each partition, and writes down where that was. SERIES is a glob over series
ids, e.g. 'plant1/*/flow'. Times are RFC 3339, or a duration from now, such as 2h.

A false alarm is learned: the series knows the episode's pattern from then on, and no such episode
is told again, a larger one is.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from titans_stream.commands.outputs import say

if TYPE_CHECKING:
    from titans_stream.config import Connector
    from titans_stream.control.announcements import Swapped
    from titans_stream.control.messages import AnyMessage
    from titans_stream.stream.control_client import Standing
    from titans_stream.stream.kafka.client import KafkaClients

PATIENCE = 10.0
_MARKS = {"false-alarm": "false_alarm", "true-alarm": "true_alarm", "expected": "expected"}
_RULE = (
    ("--direction", {"choices": ["above", "below", "both"]}),
    ("--min-deviation", {"type": float, "metavar": "X"}),
    ("--min-deviation-ratio", {"type": float, "metavar": "X"}),
    ("--false-alarms-per-series-per-day", {"type": float, "metavar": "N"}),
    ("--no-data-after", {"metavar": "WHEN"}),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("connector", metavar="CONNECTOR.yaml", type=Path)
    actions = parser.add_subparsers(
        dest="action", metavar="ACTION", required=True, parser_class=type(parser)
    )

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=text, description=text)

    shown = add("list", "show the messages, where they took effect, and what is wrong with them")
    shown.add_argument("--all", action="store_true", help="those that were undone, too")
    shown.add_argument("--json", action="store_true", help="one JSON object a line")
    for name, text in (
        ("reset", "have the memory of series begin anew"),
        ("freeze", "have series learn nothing, though they are scored and alerted"),
        ("unfreeze", "undo freeze"),
    ):
        _sent(add(name, text)).add_argument("series", metavar="SERIES")
    silence = _sent(add("silence", "open no episode for a time: a maintenance window"))
    silence.add_argument("series", metavar="SERIES")
    silence.add_argument("--from", dest="begin", metavar="TIME", help="default: from now on")
    silence.add_argument("--until", metavar="TIME", help="default: until it is undone")
    silence.add_argument("--no-learn", action="store_true", help="learn nothing meanwhile")
    budget = _sent(add("budget", "set the alert budget: false alarms per series and day"))
    budget.add_argument("series", metavar="SERIES")
    budget.add_argument("number", metavar="N", type=float)
    rule = _sent(add("rule", "set a rule, as under alerts.rules of a connector"))
    rule.add_argument("series", metavar="SERIES")
    for option, how in _RULE:
        rule.add_argument(option, **how)
    rule.add_argument("--valid-range", nargs=2, metavar=("LOW", "HIGH"), help="'-': no limit")
    rule.add_argument("--enabled", choices=["yes", "no"], help="no: score, but never alert")
    for name, text in (
        ("false-alarm", "an alert was none: its pattern is familiar to the series from now on"),
        ("true-alarm", "an alert was right: its time of the week is no habit"),
        ("expected", "an alert is expected until a time: the same is not told before"),
    ):
        mark = _sent(add(name, text))
        mark.add_argument("alert", metavar="ALERT_ID", nargs="?", help="its alert_id")
        mark.add_argument("--series", metavar="SERIES_ID", help="with --from and --to: a range")
        mark.add_argument("--from", dest="begin", metavar="TIME")
        mark.add_argument("--to", dest="end", metavar="TIME")
        if name == "expected":
            mark.add_argument("--until", metavar="TIME", required=True)
    model = _sent(add("model", "have workers change to a version of the model, and stay with it"))
    model.add_argument(
        "model_version",
        metavar="VERSION",
        help="a number; @ALIAS: what it names now; back: the one before the last change",
    )
    undone = add("undo", "take a message back")
    undone.add_argument("id", metavar="ID", help="as `list` shows it")


def _sent(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--id", help="the message's id; one of the same id is replaced")
    parser.add_argument("--by", default="", help="who says so")
    parser.add_argument("--note", default="", help="why")
    return parser


def run(args: argparse.Namespace) -> int:
    """Send a message, or show what is in force."""
    from titans_stream.config import load_connector
    from titans_stream.stream.control_client import (
        model_places,
        send,
        standing,
        swaps,
        undo,
    )
    from titans_stream.stream.kafka.client import KafkaClients

    connector = load_connector(args.connector)
    config = connector.control
    if config is None:
        raise ValueError(f"{args.connector}: control: needed, the topic of control messages")
    clients = KafkaClients(connector.kafka, patience=PATIENCE)
    if args.action == "list":
        changes = swaps(clients, config, connector.input.group_id)
        found = standing(clients, config)
        for one in found:
            one.places = model_places(changes, one) or one.places
        _show(found, args.all, args.json)
        _show_changes(changes, args.json)
        return 0
    if args.action in ("undo", "unfreeze"):
        name = args.id or f"freeze:{args.series}"
        known = {one.id for one in standing(clients, config) if one.in_force}
        if name not in known:
            told = ", ".join(sorted(known)) or "none"
            raise ValueError(f"{name}: no message of this id is in force; there are: {told}")
        undo(clients, config, name)
        say(f"undone: {name}")
        return 0
    message = _message(args, connector, clients)
    say(f"sent: {send(clients, config, message, args.id)}")
    return 0


def _message(args: argparse.Namespace, connector: Connector, clients: KafkaClients) -> AnyMessage:
    from titans_stream.control.messages import message_of
    from titans_stream.stream.control_client import find_alert, mark_of

    action: str = _MARKS.get(args.action, args.action)
    until = _time(args, "until")
    if args.action in _MARKS and args.alert is not None:
        if args.series or args.begin or args.end:
            raise ValueError("ALERT_ID: --series, --from and --to are for a range, without it")
        alert = find_alert(clients, connector.output.alerts, args.alert)
        return mark_of(alert, action, until=until, by=args.by, note=args.note)
    fields: dict[str, Any] = {"action": action, "by": args.by, "note": args.note}
    if args.action == "model":
        fields["version"] = _version(args.model_version, connector, clients)
    elif args.action == "rule":
        fields["rule"] = _rule(args)
    else:
        fields["series"] = args.series
    if args.action == "budget":
        fields["false_alarms_per_series_per_day"] = args.number
    if args.action == "silence":
        fields |= {"from": _time(args, "begin"), "until": until, "learn": not args.no_learn}
    if args.action in _MARKS:
        if not (args.series and args.begin and args.end):
            raise ValueError("an ALERT_ID, or --series, --from and --to are needed")
        fields |= {"from": _time(args, "begin"), "to": _time(args, "end")}
        fields |= {"until": until} if args.action == "expected" else {}
    return message_of(fields)


def _version(text: str, connector: Connector, clients: KafkaClients) -> str:
    """The version that an argument names. ValueError where the connector's model has none."""
    from titans_stream.lifecycle.loading import parse_registered
    from titans_stream.stream.control_client import swaps

    if not connector.model.startswith("models:"):
        raise ValueError(f"model: the connector's is {connector.model}, which has no versions")
    name = parse_registered(connector.model)[0]
    if text == "back":
        assert connector.control is not None
        changes = swaps(clients, connector.control, connector.input.group_id)
        if not changes:
            raise ValueError("back: no change of the model was announced here")
        return max(changes, key=lambda one: one.time).before.version
    if text.startswith("@"):
        from titans_stream.lifecycle.registry import alias_version

        return alias_version(name, text[1:])
    if not text.isdecimal():
        raise ValueError(f"VERSION: a number, @ALIAS or back is needed, not {text!r}")
    return text


def _time(args: argparse.Namespace, name: str) -> str | None:
    """A time as RFC 3339, of one or of a duration from now on."""
    from titans_stream.durations import parse_duration
    from titans_stream.times import format_timestamp, parse_timestamp

    text: str | None = getattr(args, name, None)
    if text is None:
        return None
    option = {"begin": "--from", "end": "--to"}.get(name, "--until")
    try:
        return format_timestamp(parse_timestamp(text))
    except ValueError:
        pass
    try:
        return format_timestamp(time.time_ns() + parse_duration(text))
    except ValueError as error:
        raise ValueError(f"{option}: a time or a duration is needed, not {text!r}") from error


def _rule(args: argparse.Namespace) -> dict[str, Any]:
    rule: dict[str, Any] = {"series": args.series}
    for option, _ in _RULE:
        name = option.removeprefix("--").replace("-", "_")
        if getattr(args, name) is not None:
            rule[name] = getattr(args, name)
    if args.valid_range is not None:
        try:
            rule["valid_range"] = [None if x == "-" else float(x) for x in args.valid_range]
        except ValueError:
            raise ValueError("--valid-range: two numbers are needed, or - for no limit") from None
    if args.enabled is not None:
        rule["enabled"] = args.enabled == "yes"
    if len(rule) == 1:
        raise ValueError("rule: nothing is set; see --help for what there is")
    return rule


def _show(found: list[Standing], everything: bool, as_json: bool) -> None:
    from titans_stream.times import format_timestamp

    now = time.time_ns()
    shown = [one for one in found if everything or one.in_force or one.problem]
    if not shown and not as_json:
        say("nothing is in force")
    for one in shown:
        text = "" if one.order is None else one.order.text
        places = {f"{p.topic}/{p.partition}": at for p, at in sorted(one.places.items())}
        valid = "over" if one.is_over(now) else "in force"
        state = "not usable" if one.problem else valid if text else "undone"
        if as_json:
            told = {
                "id": one.id, "state": state, "sent": format_timestamp(one.sent),
                "message": json.loads(text) if text else None, "problem": one.problem or None,
                "effect_from_offset": places,
            }  # fmt: skip
            say(json.dumps(told))
            continue
        since = ", ".join(f"{name}:{at}" for name, at in places.items())
        where = one.problem or (f"from {since}" if since else "has not taken effect yet")
        say(f"{state:10s}  {format_timestamp(one.sent)[:19]}Z  {one.id}  {text}  {where}")


def _show_changes(changes: list[Swapped], as_json: bool) -> None:
    for one in changes:
        if as_json:
            say(json.dumps({"state": one.action, **asdict(one)}))
            continue
        how = "warmed up with" if one.state == "warmed_up" else "taken up again with"
        say(
            f"{one.action:10s}  {one.time[:19]}Z  {one.topic}/{one.partition}:{one.offset}  "
            f"{one.model.name} {one.before.version} -> {one.model.version}, {how} "
            f"{one.messages:,} messages"
        )
