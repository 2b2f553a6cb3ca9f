"""The training loop.

Everything random depends on the seed and on the position in the run (step, part, process), never on earlier draws, and
the learning rate depends on the step alone. So the state of a run is small and plain (`_checkpoint`), and a run that
resumes from any checkpoint equals the uninterrupted run bit for bit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec
import torch
from torch import Tensor, nn

from compoundnet.nn import ConvNet
from compoundnet.train.average import Average
from compoundnet.train.checkpoints import Checkpoints
from compoundnet.train.counts import left_out_text
from compoundnet.train.frozen import freeze_stages
from compoundnet.train.hardware import is_sharded, precision_notes
from compoundnet.train.held_out import epoch_values, evaluate_held_out, score
from compoundnet.train.identity import check_identity, going_on, identity
from compoundnet.train.interruptions import Stop, diverged, interrupted, readable_compile_errors
from compoundnet.train.logs import Logs
from compoundnet.train.losses import similarity_loss, teacher_loss
from compoundnet.train.optimizer import make_optimizer, set_learning_rate
from compoundnet.train.probe import probe_task, set_classifier
from compoundnet.train.processes import (
    gathered,
    load_network,
    load_optimizer,
    network_state,
    newest_checkpoint,
    on_first,
    optimizer_state,
    share_statistics,
    total,
)
from compoundnet.train.schedule import check_norm, frozen_steps, learning_rate, steps_of_epoch, total_steps
from compoundnet.train.status import Epoch, Noted, RunState, Watcher, random_seed
from compoundnet.train.step_values import StepValues, Wanted
from compoundnet.train.summary import RunSummary, summarise
from compoundnet.train.sync_norm import synchronise
from compoundnet.train.task import Task
from compoundnet.train.teacher import KEPT, inputs_of
from compoundnet.train.training_batches import TrainingBatch, TrainingBatches

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from compoundnet.data.workers import Batch


class Engine:
    """One run of a task. Each process of `fabric` creates one and calls `run`.

    Args:
        task: The training task.
        fabric: The processes.
        checkpoints: The checkpoints to which states are saved.
        logs: The log to which epochs are reported.
        workers: Number of decoding processes for each process.
        watcher: Receives the events.

    Attributes:
        noted: The lines on images that are left out because they cannot be read.

    Raises:
        CompoundNetError: the recipe's batch does not suit the data or the number of processes.
    """

    def __init__(
        self,
        task: Task,
        fabric: Fabric,
        checkpoints: Checkpoints,
        logs: Logs,
        *,
        workers: int = 0,
        watcher: Watcher | None = None,
    ) -> None:
        recipe = task.recipe
        self._task, self._recipe, self._fabric = task, recipe, fabric
        self._checkpoints, self._logs, self._workers = checkpoints, logs, workers
        self._watcher = (watcher or Watcher()) if fabric.is_global_zero else Watcher()
        self.noted = Noted(self._watcher)
        self.epoch_steps = steps_of_epoch(len(task.train), recipe, fabric.world_size, task.asked_batch or recipe.batch)
        parts = self.epoch_steps * recipe.accumulate * fabric.world_size
        smallest = min(task.transform_of(phase).size for phase in range(recipe.phases))
        check_norm(task.network.replace(resolution=smallest), recipe, len(task.train) // parts, fabric.world_size)
        self.steps = total_steps(recipe, self.epoch_steps)
        self._batches = TrainingBatches(task, fabric, epoch_steps=self.epoch_steps, steps=self.steps, workers=workers)
        self._until = self.steps
        self._frozen_steps = frozen_steps(recipe, self.epoch_steps)
        self._state = RunState()
        self._best: dict[str, Tensor] = {}
        self._identity = identity(task)
        self._loss = task.make_loss(fabric.device)
        self._make_net()

    def selected_weights(self) -> dict[str, Tensor]:
        """Return the weights that the recipe selects. All processes call it together."""
        if self._recipe.select == "best":
            return self._best
        self._share_statistics()
        return network_state(self._average.net)

    @property
    def selected_step(self) -> int:
        """The step after which the weights are those that the recipe selects."""
        return self._state.best_step if self._recipe.select == "best" else self._state.step

    @property
    def step(self) -> int:
        """The steps that have been taken."""
        return self._state.step

    @property
    def history(self) -> list[Epoch]:
        """The epochs so far."""
        return [msgspec.convert(row, Epoch) for row in self._state.history]

    def evaluation_net(self) -> ConvNet:
        """Return the averaged network with complete (unsharded) weights. All processes call it together."""
        self._share_statistics()
        if self._whole is not self._average.net:
            self._whole.load_state_dict(network_state(self._average.net))
        return self._whole

    def _share_statistics(self) -> None:
        """Give all processes the same statistics of batch norms, if each has its own."""
        if not self._recipe.sync_norm:
            share_statistics(self._average.net, self._fabric)

    def summary(self) -> RunSummary:
        """Return what is about to happen, from the step at which the run is; a few images are timed."""
        return summarise(
            self._task, None if self._sharded else self._average.net, self._fabric, epoch_steps=self.epoch_steps,
            first_step=self._state.step, steps=self.steps, workers=self._workers, teacher=self._batches.teacher,
        )  # fmt: skip

    def stop_after(self, step: int) -> None:
        """Let the run stop after a step, short of the end of the schedule."""
        self._until = min(step, self.steps)

    def resume(self) -> bool:
        """Load the newest checkpoint; return False if there is none.

        Raises:
            CompoundNetError: it is another run's, cannot be read now, or all are damaged.
        """
        state = newest_checkpoint(self._checkpoints, self._fabric)
        if state is None:
            return False
        changes = check_identity(state["identity"], self._identity, str(self._checkpoints.folder))
        self._state = RunState(**state["run"])
        step, done, where = self._state.step, self._done(), self._checkpoints.folder
        for text in going_on(changes, self._recipe, step, self.epoch_steps, done, where):
            self._watcher.notify(text)
        # As in the last step, to which the state of the optimiser belongs.
        self._set_frozen(frozen=0 < self._state.step <= self._frozen_steps)
        load_network(self._net, state["net"])
        load_network(self._average.net, state["average"])
        load_optimizer(self._net, self._optimizer, state["optimizer"])
        if state["precision"]:  # of fp16; a run may continue in another precision
            self._fabric.strategy.precision.load_state_dict(state["precision"])
        self._best = state["best"]
        return True

    def run(self) -> None:
        """Train to the end and save checkpoints.

        Raises:
            InterruptedRunError: after SIGTERM or Ctrl-C; everything is saved.
            DivergedError: the loss or a weight is not finite.
            CompoundNetError: a checkpoint cannot be saved, or too many images are unreadable. The last good checkpoint
                stays.
        """
        self._watcher.started(self._state.step, self._until, -(-len(self._task.train) // self.epoch_steps))
        if self._fabric.device.type == "cpu":
            for text in precision_notes(self._recipe.precision):
                self._watcher.notify(text)
        self._saved_at, self._unsaved = time.monotonic(), False
        compiling = readable_compile_errors() if self._recipe.compile else contextlib.nullcontext()
        with Stop() as stop, self._logs.writing(self._state.step, self._recipe), compiling:
            self._see_whole_images()
            if self._state.seen and self._at_an_end():
                self._end_epoch()
            while not self._done():
                wanted = self._stretch(stop)
                ended = self._at_an_end()
                # Saved before the evaluation, which takes a while and may fail at unreadable images; a run that resumes
                # there evaluates first.
                if wanted.stop or wanted.save or (ended and self._save_after_epoch()):
                    self._save()
                if wanted.stop:
                    raise interrupted(self._state.step, self._until, self._checkpoints)
                if ended:
                    self._end_epoch()
            # With the last evaluation, so that a run that goes on from here knows it.
            if self._unsaved:
                self._save()
            # Also asked during the last evaluation: what follows may take as long as the training. A trial of a search,
            # which cannot go on, is done.
            if self._checkpoints.lasting and total(
                self._fabric, torch.tensor(int(stop.asked), device=self._fabric.device)
            ):
                raise interrupted(self._state.step, self._until, self._checkpoints)
            skipped = sorted(set(gathered(self._fabric, list(self._batches.skipped))))
            if skipped:
                self.noted(left_out_text(skipped, len(self._task.train), "training"))

    def _make_net(self) -> None:
        recipe, fabric = self._recipe, self._fabric
        net = self._task.make_net()
        if recipe.classifier == "probe":
            set_classifier(net, probe_task(self._task, fabric, self._watcher, self.noted))
        self._sharded = is_sharded(fabric)
        if recipe.channels_last and not self._sharded:  # FSDP shards contiguous tensors only
            net = net.to(memory_format=torch.channels_last)
        net = net.to(fabric.device)
        self._average = Average(net, recipe.ema_decay)
        self._whole = self._average.net
        if fabric.world_size > 1 and recipe.sync_norm and recipe.norm == "train":
            synchronise(net)
        net.set_grad_checkpointing(recipe.checkpointing)
        self._net = net
        if self._sharded:
            self._whole = Average(self._average.net, 0).net
            self._module = fabric.setup_module(self._forward())
            fabric.setup_module(self._average.net)
        self._set_frozen(frozen=self._frozen_steps > 0)

    def _forward(self) -> nn.Module:
        return torch.compile(self._net) if self._recipe.compile else self._net  # type: ignore[return-value]  # a module still

    def _set_frozen(self, frozen: bool) -> None:
        """Train the classifier alone (frozen trunk) or all of the network, with a new optimiser."""
        net = self._net
        net.requires_grad_(not frozen)
        net.classifier.requires_grad_(True)
        net.train(not frozen)
        net.dropout.train()
        for layer in net.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm) and self._recipe.norm == "frozen":
                layer.eval()
        freeze_stages(net, self._recipe.frozen_stages)
        if not self._sharded:  # DDP reads requires_grad when it wraps the network
            self._module = self._fabric.setup_module(self._forward())
        self._optimizer = make_optimizer(net, self._recipe)
        self._prepared: Any = self._fabric.setup_optimizers(self._optimizer)

    def _see_whole_images(self) -> None:
        """Let the teacher predict all images before the first step, if that is how it teaches."""
        how, watcher, world = self._recipe.distillation, self._watcher, self._fabric.world_size
        if how is None or how.view == "same" or self._done():
            return
        watcher.evaluation_started("the training images, by the teacher", len(self._task.train))
        kept = self._checkpoints.folder.parent / KEPT
        self._batches.see_whole_images(kept, lambda images: watcher.evaluated(images * world), self.noted)
        watcher.evaluation_ended()

    def _stretch(self, stop: Stop) -> Wanted:
        """Run steps to the end of the epoch or phase, or until a checkpoint is due or the run must stop."""
        state, started, self._unsaved = self._state, time.monotonic(), True
        phase = self._batches.phase_of(state.step)
        self._batches.enter_phase(phase)
        if self._batches.recipe.dropout is not None:
            self._net.dropout.p = self._batches.recipe.dropout
        batches = self._batches.from_step(state.step)
        pending, wanted = None, Wanted(False, False)
        for _ in range(min(self.epoch_steps - state.step % self.epoch_steps, self._until - state.step)):
            if self._batches.phase_of(state.step) != phase:
                break
            if state.step == self._frozen_steps > 0:
                self._set_frozen(frozen=False)
            stats = self._step(batches, stop)
            if pending is not None:
                # Read while the next step is running, so that a GPU does not wait for it.
                wanted = self._settle(pending, state.step)
            state.step += 1
            pending = StepValues.sent(stats)
            if any(wanted):
                break
        assert pending is not None
        last = self._settle(pending, state.step)
        state.seconds += time.monotonic() - started
        return Wanted(wanted.stop or last.stop, wanted.save or last.save)

    def _step(self, batches: Iterator[Batch], stop: Stop) -> Tensor:
        """Do one step of the optimiser.

        Returns:
            float64[5] summed over all processes: loss, correct predictions, images, the number of processes that
            were asked to stop, and the number that request a checkpoint.
        """
        recipe, fabric, step = self._recipe, self._fabric, self._state.step
        self._state.lr = learning_rate(recipe, step, self.steps, self.epoch_steps)
        set_learning_rate(self._optimizer, self._state.lr)
        stats = torch.zeros(5, dtype=torch.float64, device=fabric.device)
        total_size = sum(self._batches.size(step, part) for part in range(recipe.accumulate))
        for part in range(recipe.accumulate):
            seed = random_seed(recipe.seed, step, part, fabric.global_rank)
            batch = self._batches.prepare(next(batches), seed)
            count = len(batch.labels)
            torch.manual_seed(seed)
            with self._reduction(last=part == recipe.accumulate - 1):
                loss, logits = self._losses(batch)
                # Parts and processes may differ by an image: each counts by its images, in the sum over the parts and
                # in the mean over the processes.
                fabric.backward(loss * (count * fabric.world_size / total_size))
            stats[0] += loss.detach() * count
            stats[1] += self._right(logits, batch.labels)
            stats[2] += count
        stats[3] += stop.asked
        stats[4] += self._save_is_due()
        if recipe.clip_norm:
            fabric.clip_gradients(self._module, self._prepared, max_norm=recipe.clip_norm, error_if_nonfinite=False)
        self._prepared.step()
        self._prepared.zero_grad()
        if recipe.ema_decay:
            self._average.update(self._net, step + 1)
        return total(fabric, stats)

    def _losses(self, batch: TrainingBatch) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch, with the teacher's if there is one, and the logits without gradients."""
        how = self._recipe.distillation
        if batch.taught is None or how is None:
            logits = self._module(batch.images).float()
            return self._loss(logits, batch.targets), logits.detach()
        with inputs_of(self._net.classifier) as features:
            logits = self._module(batch.images).float()
        loss = (1 - how.weight) * self._loss(logits, batch.targets)
        loss = loss + how.weight * teacher_loss(logits, batch.taught, how)
        if batch.features is not None:
            loss = loss + how.features * similarity_loss(features[0], batch.features)
        return loss, logits.detach()

    def _right(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the number of images whose class is predicted correctly, or whose labels are at a threshold of 0.5."""
        if self._task.multilabel:
            return ((logits > 0) == (labels > 0.5)).all(1).sum()
        return (logits.argmax(1) == labels).sum()

    def _reduction(self, last: bool) -> contextlib.AbstractContextManager[object]:
        """Sum gradients over the processes only for the last part of a batch."""
        # Not entered if it would have no effect: under FSDP, leaving it disables the sum (Lightning 2.6).
        if last or self._fabric.world_size == 1:
            return contextlib.nullcontext()
        return self._fabric.no_backward_sync(self._module)

    def _settle(self, values: StepValues, step: int) -> Wanted:
        """Add up the values of a step; return the requests of all processes."""
        loss, right, seen, stop, save = values.read()
        if not math.isfinite(loss):
            raise diverged(f"the loss is {loss} at step {step}", self._recipe, self._checkpoints)
        state = self._state
        state.loss, state.right, state.seen = state.loss + loss, state.right + int(right), state.seen + int(seen)
        self._logs.step(step, loss / seen, learning_rate(self._recipe, step - 1, self.steps, self.epoch_steps))
        self._watcher.stepped(step, loss / seen)
        return Wanted(stop=stop > 0, save=save > 0)

    def _end_epoch(self) -> None:
        state, recipe, self._unsaved = self._state, self._recipe, True
        epoch = -(-state.step // self.epoch_steps)
        if not recipe.ema_decay:
            self._average.follow(self._net)
        held, task = None, self._task
        if task.held is not None and (epoch % recipe.evaluate_epochs == 0 or state.step >= self.steps):
            watcher, world = self._watcher, self._fabric.world_size
            watcher.evaluation_started("the held-out images", len(task.held))
            held = evaluate_held_out(
                self.evaluation_net(), task.held, task.preprocess, self._fabric, recipe,
                workers=self._workers, progress=lambda images: watcher.evaluated(images * world), notify=self.noted,
            )  # fmt: skip
            watcher.evaluation_ended()
            state.evaluations_since_best += 1
            if score(held, recipe) > state.best_score:
                state.best_score, state.evaluations_since_best = score(held, recipe), 0
                state.best_step = state.step
                if recipe.select == "best":
                    whole = network_state(self._average.net)
                    self._best = {name: tensor.detach().cpu().clone() for name, tensor in whole.items()}
        ended = state.end_epoch(epoch, **epoch_values(held))
        self._logs.epoch(self.history)
        self._watcher.epoch_ended(ended)

    def _at_an_end(self) -> bool:
        """Whether an epoch or the run is at its end."""
        return self._state.step % self.epoch_steps == 0 or self._state.step >= self._until

    def _save_after_epoch(self) -> bool:
        return self._done() or self._state.step // self.epoch_steps % self._recipe.save_epochs == 0

    def _done(self) -> bool:
        patience = self._recipe.patience
        return self._state.step >= self._until or (patience > 0 and self._state.evaluations_since_best >= patience)

    def _save_is_due(self) -> bool:
        """Whether a checkpoint is due, by the clock of the first process."""
        due = time.monotonic() - self._saved_at >= self._recipe.save_minutes * 60
        return due and self._fabric.is_global_zero

    def _save(self) -> None:
        state, step = self._checkpoint(), self._state.step

        def write() -> None:
            # The last loss was computed with the weights before that step.
            if not all(tensor.isfinite().all() for tensor in state["net"].values()):
                raise diverged(f"a weight is not finite after step {step}", self._recipe, self._checkpoints)
            self._checkpoints.save(state, step)

        on_first(write, self._fabric)
        self._saved_at, self._unsaved = time.monotonic(), False

    def _checkpoint(self) -> dict[str, Any]:
        return {
            "identity": self._identity,
            "run": dataclasses.asdict(self._state),
            "net": network_state(self._net),
            "average": network_state(self._average.net),
            "optimizer": optimizer_state(self._net, self._optimizer),
            "precision": self._fabric.strategy.precision.state_dict(),
            "best": self._best,
        }
