"""A tuner with the real one's names: it writes to the dimension that a spec names, there or not."""

import contextlib
import time


class AutoTuner:
    one = None

    def __init__(self):
        self.is_tuning_mode, self.best = False, {}

    @classmethod
    def get(cls):
        cls.one = cls.one or cls()
        return cls.one

    def clear_cache(self):
        self.best.clear()

    def choose_one(self, custom_op, runners, tuning_config, inputs, **kwargs):
        shapes = [list(each.shape) for each in inputs]
        if self.is_tuning_mode and self._optimization_profiles(tuning_config, shapes):
            times = {}
            for tactic in runners[0].get_valid_tactics(inputs, None, **kwargs):
                began = time.perf_counter()
                with contextlib.suppress(RuntimeError):
                    runners[0](inputs, tactic=tactic, **kwargs)
                    times[time.perf_counter() - began] = tactic
            self.best[custom_op, self._find_nearest_profile(shapes, tuning_config)] = times[min(times)]
        return runners[0], self.best.get((custom_op, self._find_nearest_profile(shapes, tuning_config)), -1)

    def _optimization_profiles(self, specs, shapes):
        profile = [list(each) for each in shapes]
        for tensor, dimension in specs:
            profile[tensor][dimension] = 512
        return [profile]

    def _find_nearest_profile(self, shapes, specs):
        profile = [list(each) for each in shapes]
        profile[0][0] = 512
        for tensor, dimension in specs:
            profile[tensor][dimension] = -1
        return str(profile)


@contextlib.contextmanager
def autotune(tune_mode=True):
    AutoTuner.get().is_tuning_mode = tune_mode
    try:
        yield
    finally:
        AutoTuner.get().is_tuning_mode = False
