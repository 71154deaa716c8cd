"""The processes of a run as Lightning asks for them: what torchrun or srun started, and never one of its own."""

from lightning_fabric.plugins.environments import ClusterEnvironment

from lightning_gen.runs.devices import Place


class Started(ClusterEnvironment):
    """The place of this process, for Lightning.

    Its own environment of SLURM saves and requeues within a signal's handler, and takes salloc for srun.
    """

    creates_processes_externally, main_address, main_port = True, "", 0

    def __init__(self, here: Place) -> None:
        super().__init__()
        self.here, self.main_address, self.main_port = here, here.address, here.port

    @staticmethod
    def detect() -> bool:
        """Never by itself: it is given."""
        return False

    def world_size(self) -> int:
        """How many processes there are."""
        return self.here.world

    def global_rank(self) -> int:
        """The number of this one."""
        return self.here.rank

    def local_rank(self) -> int:
        """Its number on its node."""
        return self.here.local_rank

    def node_rank(self) -> int:
        """Its node's number."""
        return self.here.node

    def set_world_size(self, size: int) -> None:
        """Is what it is."""

    def set_global_rank(self, rank: int) -> None:
        """Is what it is."""
