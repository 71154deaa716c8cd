"""Images of a folder, whose sub-folders are classes or splits."""

from pathlib import Path
from typing import Any

from lightning_gen.data.file_split import SHOWN
from lightning_gen.data.image_files import image_files
from lightning_gen.data.images import SPLITS, Images, Part, class_numbers
from lightning_gen.options import LocalPath


class Folder(Images):
    """PNG, JPEG and WebP images below `path`: sub-folders are the classes, or all lie flat and have no label.

    Where `path` holds a folder train, and val (or valid, validation) or test, these are the splits, and what is below
    them as above; a split without a folder is held out of train.

    Args:
        path: of the folder; its name is the data set's.
    """

    def __init__(self, path: LocalPath, **options: Any) -> None:
        super().__init__(**options)
        self.path = Path(path)
        self.name = self.path.name

    def prepare_data(self) -> None:
        """FileNotFoundError where the folder is missing."""
        if not self.path.is_dir():
            raise FileNotFoundError(f"data.path={self.path} is not a folder: set data.path to a folder of images")

    def parts(self) -> dict[str, Part]:
        """The files of each split; FileNotFoundError or ValueError for what is no folder of images."""
        found = {name: self._labelled_files(folder) for name, folder in self._folders().items()}
        names = {name: classes for name, (_, classes) in found.items() if classes is not None}
        if names and len(names) < len(found):
            flat = next(name for name in found if name not in names)
            raise ValueError(f"{self.path}: {flat} lies flat, expected class folders as beside it: sort them alike")
        classes, labels = class_numbers(names, str(self.path)) if names else ([], {})
        self.classes = len(classes) or None
        return {name: Part(paths, labels.get(name)) for name, (paths, _) in found.items()}

    def _folders(self) -> dict[str, Path]:
        """The folder of each split that has one; all of `path` is train where it holds no splits."""
        found = {path.name.lower(): path for path in sorted(self.path.iterdir()) if path.is_dir()}
        names = [name for name in found if name in SPLITS]
        files = image_files(self.path) if names else []
        beside = [path for path in files if path.relative_to(self.path).parts[0].lower() not in names]
        if not names or (len(names) == 1 and (beside or names != ["train"])):
            return {"train": self.path}  # a class may be called train
        folders = {SPLITS[name]: found[name] for name in names}
        if "train" not in names or beside or len(folders) < len(names):
            fault = f"and {beside[0]} beside them" if beside else "expected train, and val or test"
            held = f"{self.path} holds the splits {', '.join(names)}"
            raise ValueError(f"{held}, {fault}: mend the folders, or set data.path to one of them")
        return folders

    def _labelled_files(self, folder: Path) -> tuple[list[Path], list[str] | None]:
        """The files in the order of their names, and the names of their classes or None; ValueError for a mixture."""
        files = image_files(folder)
        if not files:
            named = f"data.path={folder}" if folder == self.path else folder
            raise FileNotFoundError(f"{named} holds no PNG, JPEG or WebP image: set data.path to one that does")
        flat = [path for path in files if path.parent == folder]
        if len(flat) == len(files):
            return files, None
        if flat:
            raise ValueError(f"{flat[0]} lies beside class folders: move it into one of them")
        names = [path.relative_to(folder).parts[0] for path in files]
        self._check_empty(folder, set(names))
        return files, names

    def _check_empty(self, folder: Path, classes: set[str]) -> None:
        """ValueError for a folder that holds no image."""
        empty = [path for path in sorted(folder.iterdir()) if path.is_dir() and path.name not in classes]
        if empty := [str(path) for path in empty if path.name[0] != "." and path.name != "__MACOSX"]:
            raise ValueError(
                f"{', '.join(empty[:SHOWN])} {'hold' if len(empty) > 1 else 'holds'} no PNG, JPEG or WebP image, and "
                "would be no class: fill or remove it"
            )
