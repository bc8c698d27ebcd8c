"""A language model with a Titans memory, trained and asked in some minutes on a CPU.

Stories are made here: who has what is told first, then comes chatter, then questions. What was told
lies further back than the attention window of 16 tokens reaches, so that only the memory can
answer; it changes from story to story, so that the weights cannot know it.

    python -m benchmarks.language_model            some five minutes
    python -m benchmarks.language_model --steps 50 a look
"""

from __future__ import annotations

import argparse
import random
import time

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from titans_stream.titans import MAL, LanguageModel, MALConfig, MemoryConfig, compile_chunks

NAMES = ["ada", "ben", "cleo", "dan", "eva", "finn", "gina", "hugo", "iris", "jan"]
THINGS = ["lamp", "key", "book", "coat", "drum", "rope", "kite", "bell"]
CHATTER = "then the wind rose and it rained all day but nobody minded much".split()  # noqa: SIM905
WORDS = [".", "?", "who", "has", *NAMES, *THINGS, *dict.fromkeys(CHATTER)]
NUMBER = {word: number for number, word in enumerate(WORDS)}
WINDOW = 16


def story(chatter: int, facts: int = 4) -> list[str]:
    """`facts` facts, `chatter` words about nothing, and a question about every fact."""
    told = list(zip(random.sample(NAMES, facts), random.sample(THINGS, facts), strict=True))
    words = [word for name, thing in told for word in (name, "has", "the", thing, ".")]
    begin = random.randrange(len(CHATTER))
    words += [CHATTER[(begin + place) % len(CHATTER)] for place in range(chatter)] + ["."]
    for name, thing in random.sample(told, facts):
        words += ["who", "has", "the", thing, "?", name, "."]
    return words


def batch(rows: int, chatter: int) -> torch.Tensor:
    """Stories of one length as numbers [rows, words]."""
    return torch.tensor([[NUMBER[word] for word in story(chatter)] for _ in range(rows)])


def answered(model: LanguageModel, tokens: torch.Tensor) -> float:
    """Share of the questions whose answer is the model's first choice."""
    with torch.no_grad():
        logits, _ = model(tokens[:, :-1])
    asked = tokens[:, :-1] == NUMBER["?"]
    return float((logits.argmax(-1) == tokens[:, 1:])[asked].float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--steps", type=int, default=3000)
    options = parser.parse_args()
    random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    memory = MemoryConfig(width=32, heads=2, depth=2, chunk=8, alpha_floor=0.003, theta_floor=0.05)
    config = MALConfig(memory=memory, attention_heads=2, window=WINDOW)
    model = LanguageModel(len(WORDS), [MAL(config), MAL(config)])
    compile_chunks(model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=options.steps)
    started = time.perf_counter()
    for step in range(1, options.steps + 1):
        tokens = batch(16, 24)
        logits, _ = model(tokens[:, :-1])
        loss = cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0 or step == options.steps:
            spent = time.perf_counter() - started
            print(f"step {step:4d}  loss {loss:.3f}  {spent:.0f} s", flush=True)
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        for chatter in (24, 240, 2400):  # ten and a hundred times the trained distance
            share = answered(model, batch(32, chatter))
            print(f"answers right after {chatter} words of chatter: {share:.2f}, chance .25")
        words = story(24)
        cut = words.index("?") + 1
        prompt = torch.tensor([[NUMBER[word] for word in words[:cut]]])
        told, _ = model.generate(prompt, 12, temperature=0)
    print("told: " + " ".join(words[:cut]))
    print("model: " + " ".join(WORDS[number] for number in told[0].tolist()))
    print("truth: " + " ".join(words[cut : cut + 12]))


if __name__ == "__main__":
    main()
