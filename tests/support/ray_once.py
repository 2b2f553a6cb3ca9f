"""MODEL IMAGES: predicts a folder with Ray Data on a local cluster of two nodes, and prints what it found as JSON."""

from __future__ import annotations

import importlib
import json
import sys
import time
from typing import Any

import numpy as np

from compoundnet.runtime import BatchPredictor

# By name, because the type checker runs where Ray is not installed.
ray: Any = importlib.import_module("ray")
cluster_utils: Any = importlib.import_module("ray.cluster_utils")


class OnNode(BatchPredictor):
    """Adds the node that predicted."""

    def __call__(self, batch: Any) -> dict[str, Any]:
        time.sleep(0.3)  # so that the other node has work before this one has done it all
        found = super().__call__(batch)
        found["node"] = np.array([ray.get_runtime_context().get_node_id()] * len(found["prediction"]))
        return found


def main() -> None:
    model, images = sys.argv[1:]
    cluster = cluster_utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": 100 << 20}
    )
    cluster.add_node(num_cpus=2, object_store_memory=100 << 20)
    ray.init(address=cluster.address, log_to_driver=False)
    # Otherwise the node that is ready first may have done everything before the other one starts.
    ray.data.DataContext.get_current().wait_for_min_actors_s = 300
    files = ray.data.read_binary_files(images, include_paths=True, override_num_blocks=8, num_cpus=0.5)
    rows = files.map_batches(
        OnNode,
        fn_constructor_args=(model,),
        fn_constructor_kwargs={"threads": 1, "top": 1, "name": "path"},
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=2, max_tasks_in_flight_per_actor=1),
        num_cpus=1.2,  # so that each node has one, and room to read
    ).take_all()
    print(
        json.dumps(
            {
                "nodes": len(ray.nodes()),
                "used_nodes": len({row["node"] for row in rows}),
                "predictions": {row["path"]: row["prediction"] for row in rows},
            }
        )
    )
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
