"""Prompts of the demo: booking requests to be turned into JSON, and word problems. Made here, varied by a seed."""

from __future__ import annotations

import json
import random
from typing import Any

BOOKING_SYSTEM = (
    "Extract the booking from the message. Reply with JSON only, with the keys people, date, time, name, note. "
    "Use null for what is not said."
)
EXAMPLES = (
    ("Could we have a table for two on Friday at 8 pm? The name is Okafor.", ("2", "Friday", "8 pm", "Okafor", None)),
    ("I need to book for 6, we are bringing a baby.", ("6", None, None, None, "baby")),
)
MATH_SYSTEM = "Solve the problem step by step. End with the line 'Answer: <number>'."

NAMES = [
    "Adeyemi",
    "Bianchi",
    "Chen",
    "Dubois",
    "Eriksen",
    "Farouk",
    "Gupta",
    "Haas",
    "Ivanova",
    "Jensen",
    "Kowalski",
    "Lopez",
    "Meyer",
    "Nakamura",
    "Osei",
]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday", "tomorrow", "tonight"]
TIMES = ["noon", "1 pm", "5:30 pm", "6 pm", "6:45 pm", "7 pm", "7:15 pm", "8 pm", "half past eight", "9 pm"]
NOTES = ["a high chair", "a window seat", "a vegan menu", "a quiet corner", "wheelchair access", "a birthday cake"]
OPENINGS = ["Hello,", "Hi,", "Good evening,", "Hey there,", "", "Please,", "Excuse me,"]
ASKS = [
    "can I book a table for {people} on {date} at {time}?",
    "I would like to reserve for {people}, {date}, {time}.",
    "is there space for {people} people {date} around {time}?",
    "we are {people} and want to come {date} at {time}.",
    "do you have anything for {people} at {time}?",
    "a table for {people} {date}, please.",
]
TAILS = ["Under {name}.", "My name is {name}.", "We need {note}.", "It is for {name}, and we need {note}.", ""]

THINGS = ["apples", "pencils", "stamps", "marbles", "tickets", "books", "cookies", "shells", "cards", "bottles"]
PEOPLE = ["Amara", "Ben", "Chiara", "Dario", "Elif", "Femi", "Greta", "Hana", "Idris", "Jana"]
PROBLEMS = [
    "{a} has {x} {thing}. {b} gives {a} {y} more. How many {thing} does {a} have now?",
    "{a} buys {x} boxes with {y} {thing} in each box. How many {thing} does {a} have?",
    "{a} had {z} {thing} and gave {y} of them to {b}. How many {thing} are left?",
    "One of the {thing} costs {y} coins. {a} buys {x}. How many coins does {a} pay?",
    "{a} and {b} share {even} {thing} equally. How many {thing} does each get?",
]


def demo_prompts(count: int, seed: int = 0, span_s: float = 3600.0) -> list[dict[str, Any]]:
    """`count` prompts (id, messages, max_tokens, route, arrival_s), two thirds bookings, without repetition.

    Raises ValueError if the templates do not give this many different prompts.
    """
    chance = random.Random(seed)  # noqa: S311 - variety, not secrecy
    seen: set[str] = set()
    prompts: list[dict[str, Any]] = []
    attempts = 0
    while len(prompts) < count:
        attempts += 1
        if attempts > 50 * count:
            raise ValueError(f"the templates do not give {count} different prompts")
        route = "booking" if chance.random() < 2 / 3 else "math"
        messages = _booking(chance) if route == "booking" else _math(chance)
        text = messages[-1]["content"]
        if text in seen:
            continue
        seen.add(text)
        prompts.append(
            {
                "id": f"{route}-{len(prompts):05d}",
                "route": route,
                "messages": messages,
                "max_tokens": 64 if route == "booking" else 120,
            }
        )
    for index, prompt in enumerate(prompts):
        prompt["arrival_s"] = round(index * span_s / count, 3)
    return prompts


def _booking(chance: random.Random) -> list[dict[str, str]]:
    fields = {
        "people": str(chance.randint(1, 14)),
        "date": chance.choice(DAYS),
        "time": chance.choice(TIMES),
        "name": chance.choice(NAMES),
        "note": chance.choice(NOTES),
    }
    parts = (chance.choice(OPENINGS), chance.choice(ASKS), chance.choice(TAILS))
    text = " ".join(part for part in parts if part).format(**fields)
    messages = [{"role": "system", "content": BOOKING_SYSTEM}]
    for question, answer in EXAMPLES:
        reply = dict(zip(("people", "date", "time", "name", "note"), answer, strict=True))
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": json.dumps(reply)}]
    return [*messages, {"role": "user", "content": text[0].upper() + text[1:]}]


def word_problem(chance: random.Random) -> str:
    """One problem for school, with small whole numbers."""
    a, b = chance.sample(PEOPLE, 2)
    x, y = chance.randint(2, 30), chance.randint(2, 20)
    return chance.choice(PROBLEMS).format(
        a=a, b=b, x=x, y=y, z=y + chance.randint(1, 40), even=2 * x, thing=chance.choice(THINGS)
    )


def _math(chance: random.Random) -> list[dict[str, str]]:
    return [{"role": "system", "content": MATH_SYSTEM}, {"role": "user", "content": word_problem(chance)}]
