"""Sets of changes: pairs that pay together only, changes that are not needed, failures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from training_stand_ins import BASELINE, FakeRunner, SpeedOf, Turn, block_of, context_of

from saccade import plugins
from saccade.errors import RuntimeFailure
from saccade.optimize.training.interactions import interactions
from saccade.optimize.training.part_search import PartSearch
from saccade.optimize.training.ring import Ring
from saccade.optimize.training.runner import Pace, TrainingRunner
from saccade.optimize.training.search import Kept, TrainingSearch, of_samples, rebuilt
from saccade.optimize.training.sets import Option, configured, together
from saccade.optimize.training.trial_log import Outcome, TrialLog
from saccade.prediction import Prediction
from saccade.progress import SilentProgress
from saccade.study import RunFolder, Trial, Verdict
from saccade.train.change import TrainingContext
from saccade.train.config import TrainingConfig
from saccade.train.profile import ModelFacts, TrainingProfile
from saccade.train.records import TrainingBlock

BF16 = Turn("bf16", "precision", "bf16")
LAST = Turn("channels_last", "channels_last", True)
COMPILE = Turn("compile", "compile", "default", cost_s=60.0)
FUSED = Turn("fused_optimizer", "fused_optimizer", True)


def unet(config: TrainingConfig) -> float:
    """Samples per second as measured on a CPU: neither of the pair gains much alone."""
    c = config.compute
    table = {
        (False, False): 1.8, (True, False): 3.5, (False, True): 2.4, (True, True): 14.0,
    }  # fmt: skip
    found = table[c.precision == "bf16", c.channels_last]
    if c.compile:
        found = max(7.7, found) if not (c.precision == "bf16" and c.channels_last) else 14.0
    return found


def options(*changes: Turn) -> list[Option]:
    context = context_of()
    return [Option(c, c.predict(context), i) for i, c in enumerate(changes)]  # type: ignore[arg-type]


def search(
    folder: Path, speed_of: SpeedOf, *changes: Turn, seconds: float = 1e6
) -> tuple[set[str], list[Trial], PartSearch]:
    log = TrialLog(RunFolder(folder), SilentProgress(), "machine")
    found = PartSearch(
        context_of(),
        options(*changes),
        "synthetic",
        Ring(
            log,
            folder,
            0.02,
            lambda: seconds,
            lambda config, timed, where: FakeRunner(config, speed_of),  # type: ignore[return-value, arg-type]
        ),
    )
    return {o.label for o in found.run()}, log.trials, found


def test_a_pair_that_pays_only_together_is_found_without_what_adds_nothing(tmp_path: Path) -> None:
    chosen, trials, _ = search(tmp_path, unet, BF16, LAST, COMPILE, FUSED)
    assert chosen == {"bf16", "channels_last"}
    assert {t.change for t in trials if t.details["how"] == "alone"} >= {"bf16", "channels_last"}


def test_every_trial_that_was_measured_has_its_memory_on_record(tmp_path: Path) -> None:
    _, trials, _ = search(tmp_path, unet, BF16, LAST, COMPILE, FUSED)
    measured = [t for t in trials if t.metrics.get("samples_per_s") is not None]
    assert {t.details["how"] for t in measured} >= {"alone", "without"}
    assert {t.metrics["peak_rss_mb"] for t in measured} == {500.0}
    assert not any("peak_device_mb" in t.metrics for t in measured)


def test_the_interaction_of_the_pair_is_on_record(tmp_path: Path) -> None:
    _, _, found = search(tmp_path, unet, BF16, LAST, COMPILE)
    rates = {key: pace.samples_per_s for key, pace in found.paces.seen().items()}
    strongest = interactions(rates)[0]
    assert {strongest.first, strongest.second} == {"bf16", "channels_last"}
    assert strongest.factor == pytest.approx(14 * 1.8 / (3.5 * 2.4), rel=0.05)


def test_pairs_that_were_raced_need_no_trial_of_their_own(tmp_path: Path) -> None:
    _, trials, found = search(tmp_path, unet, BF16, LAST, FUSED)
    raced = frozenset({"bf16", "channels_last"})
    assert found.paces.seen()[raced].samples_per_s == pytest.approx(14.0, rel=0.05)
    assert not [t for t in trials if t.details["how"] == "pair" and set(t.details["set"]) == raced]


def test_each_kept_change_has_a_marginal_gain_that_was_raced(tmp_path: Path) -> None:
    _, _, found = search(tmp_path, unet, BF16, LAST, FUSED)
    assert found.marginal["bf16"].value == pytest.approx(14 / 2.4, rel=0.05)
    assert found.marginal["channels_last"].value == pytest.approx(14 / 3.5, rel=0.05)


@dataclass(frozen=True)
class Second(Turn):
    """The second half of a pair, which knows the first."""

    def predict(self, context: TrainingContext) -> Prediction:
        gain = 5.0 if context.config.compute.precision == "bf16" else 1.3
        return Prediction(gain, 10.0, "a pair")


def test_a_kept_change_is_predicted_among_the_others_it_was_raced_with(tmp_path: Path) -> None:
    second = Second("channels_last", "channels_last", True)
    _, trials, found = search(tmp_path, unet, BF16, second)
    assert found.expected["channels_last"].gain == pytest.approx(5.0)
    raced = next(t for t in trials if t.change == "channels_last (among the others)")
    assert raced.predicted_gain == pytest.approx(5.0)
    alone = next(t for t in trials if t.change == "channels_last")
    assert alone.predicted_gain == pytest.approx(1.3)


def test_a_change_that_spoils_the_whole_set_is_left_out(tmp_path: Path) -> None:
    def speed(config: TrainingConfig) -> float:
        found = 5.0 if config.compute.precision == "bf16" else 2.0
        return found * (0.3 if config.compute.compile else 1.0)

    chosen, _, _ = search(tmp_path, speed, BF16, COMPILE)
    assert chosen == {"bf16"}


def test_a_change_that_hinders_all_others_is_found_before_any_race(tmp_path: Path) -> None:
    """Together nothing is won; without one of the three the others are."""

    def speed(config: TrainingConfig) -> float:
        c = config.compute
        if c.compile:
            return 2.0
        return 2.0 + (1.0 if c.precision == "bf16" else 0) + (1.0 if c.channels_last else 0)

    chosen, trials, _ = search(tmp_path, speed, BF16, LAST, replace(COMPILE, cost_s=0.0))
    assert chosen == {"bf16", "channels_last"}
    raced = {t.change for t in trials if "among the others" in t.change}
    assert raced == {"bf16 (among the others)", "channels_last (among the others)"}


def test_a_set_that_beats_what_elimination_left_is_taken(tmp_path: Path) -> None:
    """Taking away one by one ends at {bf16}; the pair without it is faster."""

    def speed(config: TrainingConfig) -> float:
        c = config.compute
        if c.precision == "bf16":
            return 4.0
        return 9.0 if c.channels_last and c.fused_optimizer else 2.0

    chosen, _, _ = search(tmp_path, speed, BF16, LAST, FUSED)
    assert chosen == {"channels_last", "fused_optimizer"}


def test_what_fails_is_on_record_and_the_rest_goes_on(tmp_path: Path) -> None:
    def speed(config: TrainingConfig) -> float:
        if config.compute.compile:
            raise RuntimeFailure("no compiler")
        return 5.0 if config.compute.precision == "bf16" else 2.0

    chosen, trials, _ = search(tmp_path, speed, BF16, COMPILE)
    assert chosen == {"bf16"}
    assert any(t.verdict == "failed" and "no compiler" in t.reason for t in trials)


def test_nothing_is_kept_where_nothing_pays(tmp_path: Path) -> None:
    chosen, _, _ = search(tmp_path, lambda config: 2.0, BF16, LAST)
    assert chosen == set()


def test_a_search_that_is_cut_short_keeps_no_set_that_is_slower(tmp_path: Path) -> None:
    def slower(config: TrainingConfig) -> float:
        return 2.0 if config.hash == BASELINE.hash else 1.0

    chosen, _, _ = search(tmp_path, slower, BF16, LAST, seconds=0.0)
    assert chosen == set()


def ticking(folder: Path, speed_of: SpeedOf, seconds: float, *changes: Turn) -> PartSearch:
    """A search on a clock of its own: starting a worker, compiling and steps take their time."""
    left = [seconds]

    class Runner(FakeRunner):
        def __init__(self, config: TrainingConfig) -> None:
            super().__init__(config, speed_of)
            left[0] -= 4 + (60 if config.compute.compile else 0) + 2 * self.warmup[0]

        def block(self, steps: int) -> TrainingBlock:
            found = super().block(steps)
            left[0] -= found.wall_s
            return found

        def steps_for(self, seconds: float) -> int:
            return max(1, round(seconds / self.warmup[0]))

        def pace(self, seconds: float) -> Pace:
            block = self.block(1)
            return Pace.of(block)

    log = TrialLog(RunFolder(folder), SilentProgress(), "machine")
    ring = Ring(
        log,
        folder,
        0.02,
        lambda: left[0],
        lambda config, timed, where: Runner(config),  # type: ignore[return-value, arg-type]
    )
    return PartSearch(context_of(), options(*changes), "synthetic", ring)


def test_what_the_time_does_not_allow_to_make_is_not_raced(tmp_path: Path) -> None:
    """Without either of the pair the set would have to be compiled again; there is no time."""

    def speed(config: TrainingConfig) -> float:
        return 14.0 if config.compute.compile and config.compute.channels_last else 2.0

    found = ticking(tmp_path, speed, 150.0, LAST, COMPILE)
    assert {o.label for o in found.run()} == {"channels_last", "compile"}
    raced = {t.change for t in found._log.trials if t.details["how"] == "without"}
    assert raced == {"compile (among the others)"}


def test_what_takes_too_long_to_make_is_left_out_of_the_first_set(tmp_path: Path) -> None:
    found = ticking(tmp_path, unet, 70.0, BF16, COMPILE)
    assert {o.label for o in found.run()} == {"bf16"}
    (left,) = [t for t in found._log.trials if "compile" in t.details["set"]]
    assert left.verdict == "inconclusive"
    assert "to make it takes about 60 s" in left.reason


def test_what_is_dear_and_promises_nothing_beside_the_others_comes_last(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Compile(Turn):
        def predict(self, context: TrainingContext) -> Prediction:
            gain = 0.95 if context.config.compute.precision == "bf16" else 1.2
            return Prediction(gain, 20.0, "made up", self.cost_s)

    chosen, trials, _ = search(tmp_path, unet, BF16, LAST, Compile(**vars(COMPILE)))
    assert chosen == {"bf16", "channels_last"}
    assert trials[0].verdict == "inconclusive"
    assert "beside the others it promises 0.95x" in trials[0].reason
    assert set(trials[1].details["set"]) == chosen
    assert any(set(t.details["set"]) == {*chosen, "compile"} for t in trials)


def test_of_slow_steps_the_last_of_the_warm_up_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    class Worker:
        def call(self, method: str, steps: int, timeout_s: float) -> TrainingBlock:
            taken.append(steps)
            return block_of(2.0, steps)

    monkeypatch.setattr("saccade.optimize.training.runner._opened", lambda *_: Worker())
    assert TrainingRunner(BASELINE).pace(2.0) == Pace(2.0, 4.0, 500.0)
    assert taken == [1, 1, 1]


def test_slow_steps_leave_time_to_measure_the_best_set_alone(tmp_path: Path) -> None:
    """Steps take four seconds at first; racing must not take all the time."""
    found = ticking(tmp_path, unet, 110.0, FUSED, BF16, LAST)
    assert {o.label for o in found.run()} >= {"bf16", "channels_last"}
    rates = {key: pace.samples_per_s for key, pace in found.paces.seen().items()}
    strongest = interactions(rates)[0]
    assert {strongest.first, strongest.second} == {"bf16", "channels_last"}


def test_variants_of_one_change_are_never_together() -> None:
    half = Turn("precision", "precision", "fp16", gain=1.1)
    full = Turn("precision", "precision", "bf16", gain=2.0)
    chosen = together(context_of(), sorted(options(half, full), key=lambda o: -o.prediction.gain))
    assert [o.change for o in chosen] == [full]


def test_changes_are_applied_in_the_order_of_the_table() -> None:
    first, second = options(LAST, BF16)
    assert configured(context_of(), [second, first]) == configured(context_of(), [first, second])


def test_an_interrupted_search_measures_nothing_twice(tmp_path: Path) -> None:
    first, trials, _ = search(tmp_path, unet, BF16, LAST, FUSED)
    FakeRunner.opened.clear()
    again, repeated, _ = search(tmp_path, unet, BF16, LAST, FUSED)
    assert again == first and len(repeated) == len(trials)
    # Only the start, which is no trial, is measured again.
    assert set(FakeRunner.opened) == {BASELINE.hash}


def test_a_part_comes_again_for_what_was_kept_makes_possible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers can only be kept alive once there are some."""

    @dataclass(frozen=True)
    class Load(Turn):
        def applies(self, context: TrainingContext) -> str | None:
            loader = context.config.loader
            if self.field == "persistent" and loader.workers == 0:
                return "there are no workers"
            return "already on" if getattr(loader, self.field) == self.value else None

        def apply(self, context: TrainingContext) -> TrainingConfig:
            return context.config.with_loader(**{self.field: self.value})

    workers = Load("workers", "workers", 2, part="data")
    kept_alive = Load("persistent", "persistent", True, part="data")
    table = {"workers": workers, "persistent": kept_alive, "bf16": BF16}
    monkeypatch.setattr(plugins, "names", lambda kind: list(table))
    monkeypatch.setattr(plugins, "load", lambda kind, name: Variants(table[name]))

    def speed(config: TrainingConfig) -> float:
        fast = 2.0 if config.compute.precision == "bf16" else 1.0
        return fast * (1 + config.loader.workers + 2 * config.loader.persistent)

    profiled: list[bool] = []

    def profile_of(config: TrainingConfig, known: TrainingProfile | None) -> TrainingProfile:
        profiled.append(known is not None)
        return context_of(config).profile

    search = TrainingSearch(
        context_of(),
        Ring(
            TrialLog(RunFolder(tmp_path), SilentProgress(), "machine"),
            tmp_path,
            0.02,
            lambda: 1e6,
            lambda config, timed, where: FakeRunner(config, speed),  # type: ignore[return-value, arg-type]
        ),
        profile_of,
        SilentProgress(),
    )
    found = search.run()
    assert {kept.option.label for kept in found.kept} == {"workers", "persistent", "bf16"}
    assert found.config.loader.persistent and found.config.loader.workers == 2
    # Each time something was kept, the training was profiled again; where samples are made as
    # before, what was seen of them holds.
    assert sorted(profiled) == [False, False, True]
    context = context_of()
    whole = rebuilt(found.kept, context)
    assert (whole.config, whole.kept, whole.fallen) == (found.config, found.kept, ())
    # What cannot be without another change goes with it, and that is said.
    left = rebuilt([k for k in found.kept if k.option.label != "workers"], context)
    assert not left.config.loader.persistent
    assert [k.option.label for k in left.kept] == ["bf16"]
    assert [(k.option.label, why) for k, why in left.fallen] == [
        ("persistent", "there are no workers")
    ]


def test_a_change_that_fails_when_it_is_made_again_is_said() -> None:
    @dataclass(frozen=True)
    class Failing(Turn):
        def apply(self, context: TrainingContext) -> TrainingConfig:
            raise RuntimeFailure("no batch fits")

    kept = [Kept(option, None, None) for option in options(Failing("larger", "tf32", True), BF16)]
    left = rebuilt(kept, context_of())
    assert [k.option.label for k in left.kept] == ["bf16"]
    assert left.fallen == ((kept[0], "no batch fits"),)


def test_a_change_is_made_again_under_what_was_known_when_it_was_kept() -> None:
    @dataclass(frozen=True)
    class OnFastSteps(Turn):
        def applies(self, context: TrainingContext) -> str | None:
            return None if context.profile.block.samples_per_s > 5 else "steps are slow"

    (option,) = options(OnFastSteps("fast", "tf32", True))
    later = context_of(block=block_of(10.0)).profile
    assert rebuilt([Kept(option, None, None, None, later)], context_of()).config.compute.tf32
    assert rebuilt([Kept(option, None, None)], context_of()).fallen


def test_nothing_stale_of_computing_is_left_where_profiling_fails() -> None:
    seen = replace(
        context_of().profile,
        memory_mb={"activations": 100.0},
        scaled_ms={8: 4.0, 16: 8.0},
        launches=100.0,
        device_ms=3.0,
        model=ModelFacts(layers=9),
    )
    left = of_samples(seen)
    assert (left.memory_mb, left.scaled_ms, left.launches, left.device_ms) == ({}, {}, 0.0, None)
    assert left.model == ModelFacts() and left.facts == seen.facts


@dataclass(frozen=True)
class Variants:
    """A change of the table with one variant."""

    only: Turn

    def variants(self, context: TrainingContext) -> list[Turn]:
        return [self.only]


def test_trials_of_a_resumed_run_have_numbers_of_their_own(tmp_path: Path) -> None:
    def record(log: TrialLog, verdict: Verdict) -> int:
        outcome = Outcome(verdict, "why", "alone")
        (option,) = options(BF16)
        return log.record((option,), BASELINE, BASELINE, "block", outcome).number

    run = RunFolder(tmp_path)
    first = TrialLog(run, SilentProgress(), "machine")
    assert [record(first, "worse"), record(first, "inconclusive")] == [1, 2]
    second = TrialLog(run, SilentProgress(), "machine")
    known = second.known(BASELINE, BASELINE, "alone", "block")
    assert known is not None and second.known_count == 1
    assert second.again(known).number == 1
    assert record(second, "inconclusive") == 3
