"""What the folders of a data set mean: classes, splits, or neither. Known from names alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from sslcurr.data.sources.clutter import kind_of_folder
from sslcurr.data.sources.words import FILLERS, is_generic, is_unlabelled, same_name, split_of_folder, tokens, word_set
from sslcurr.errors import DataError
from sslcurr.wording import and_more, counted

__all__ = ["Layout", "read_layout"]

CHARTS = frozenset({"figures", "figs", "plots", "charts"})
LABELLED = ({"labeled", "images"}, {"labelled", "images"}, {"labeled"}, {"labelled"})
NO_CLASSES = word_set("output outputs logs predictions gradcam checkpoints backup backups unsorted excluded tmp temp")
VEHICLES = word_set(
    "vehicle vehicles bus buses car cars truck trucks lorry van tram trams subway metro bicycle bike bikes motorcycle "
    "motorbike airplane aeroplane plane airplanes helicopter boat ship ferry tractor taxi ambulance"
)
IMAGES_ONLY = frozenset({"images", "image", "imgs", "img", "jpegimages", "jpg", "jpeg", "png"})
PARTS_OF_SETS = word_set("part batch fold images imgs patient case subject site center centre hospital")
COPY = re.compile(r"(.+?)[ _-]*(?:\(\d+\)|[ _-](?:copy|kopie|copie|backup|bak|old)(?: ?\(\d+\))?)", re.IGNORECASE)
OPPOSITES = (
    *(("positive", "negative"), ("pos", "neg"), ("benign", "malignant"), ("normal", "abnormal"), ("normal", "tumor")),
    *(("healthy", "diseased"), ("yes", "no"), ("0", "1")),
)
# Names of parts that several classes may share: views, sessions, sides.
PARTS_OF_CLASSES = word_set(
    "image images img imgs view views session sessions side left right front back top bottom ap pa lateral "
    "frontal batch part fold day week month year x mag zoom patient case subject study series scan series raw "
    "original originals camera cam site center centre hospital set dir folder roi color colour gray grey"
)


@dataclass
class Folder:
    """A folder of a data set: its folders by name, and the numbers of the images that lie in it."""

    path: str = ""
    folders: dict[str, Folder] = field(default_factory=dict)
    images: list[int] = field(default_factory=list)

    def below(self) -> Iterator[int]:
        """The images at any depth."""
        yield from self.images
        for folder in self.folders.values():
            yield from folder.below()

    @property
    def filled(self) -> dict[str, Folder]:
        """The folders in which an image lies at any depth."""
        return {name: folder for name, folder in self.folders.items() if any(True for _ in folder.below())}

    @property
    def empty(self) -> list[Folder]:
        """The folders in which there is none."""
        filled = self.filled
        return [folder for name, folder in self.folders.items() if name not in filled]


@dataclass
class Layout:
    """What is known of images from where they lie: one label (None: none) and split (None: no splits) an image."""

    labels: list[str | None]
    splits: list[str] | None = None
    notes: list[str] = field(default_factory=list)


def read_layout(images: Sequence[str], empty_folders: Iterable[str] = ()) -> Layout:
    """What the folders of images (paths relative to the data set's) mean; `empty_folders` are those without any image.

    Classes are the folders of the first folder that holds several, or of its folders called train, val and test (and
    the like); or the other way round, with train and test in every class folder.

    Raises DataError where that is not clear, and for folders of a class or a split without an image.
    """
    root = _tree(images, empty_folders)
    base = _unwrapped(root)
    layout = Layout([None] * len(images))
    names = {name: split_of_folder(name) for name in base.folders}
    split_folders = {name: split for name, split in names.items() if split} or _splits_of_one_set(base)
    if base is not root:
        layout.notes.append(f"the data set is what lies in {base.path}")
    if split_folders and not _is_a_class(base, split_folders, layout):
        _read_splits(base, split_folders, layout)
    elif any(split_of_folder(name) for folder in base.filled.values() for name in folder.filled):
        _read_splits_of_classes(base, layout)
    else:
        _read_classes(base, layout)
    return layout


def _tree(images: Sequence[str], empty_folders: Iterable[str]) -> Folder:
    root = Folder()
    folders = {"": root}

    def folder_at(path: str) -> Folder:
        if path not in folders:
            above, _, name = path.rpartition("/")
            folders[path] = folder_at(above).folders.setdefault(name, Folder(path))
        return folders[path]

    for i, name in enumerate(images):
        folder_at(name.rpartition("/")[0]).images.append(i)
    for path in empty_folders:
        if not any(map(kind_of_folder, path.split("/"))):  # annotations, as text
            folder_at(path)
    return root


def _unwrapped(root: Folder) -> Folder:
    """The folder that is the data set: `root`, or what lies in it alone, as archives are unpacked."""
    base = root
    while len(base.folders) == 1:
        (name,) = base.folders
        inside = base.folders[name]
        if split_of_folder(name) or not inside.filled or len(base.images) > len(list(inside.below())):
            break
        base = inside
    has_splits = any(split_of_folder(name) for name in base.folders) or bool(_splits_of_one_set(base))
    has_classes = len(base.folders) > 1 and not all(_is_a_part(name) for name in base.folders)
    return base if has_splits or has_classes or all(map(is_generic, base.folders)) else root


def _is_a_part(name: str) -> bool:
    """Whether a folder's name says which part of a class it is, such as a session, and not which class."""
    words = set(tokens(name))
    return bool(words) and words <= PARTS_OF_CLASSES


def _splits_of_one_set(base: Folder) -> dict[str, str]:
    """The split of folders that are called like `ISIC_Training_Input` and `ISIC_Test_Input`: a split each, and the rest
    of the name the same.

    Raises DataError for several such rests: `cat_train`, `cat_test`, `dog_train`.
    """
    splits_of: dict[str, dict[str, str]] = {}
    for name in base.folders:
        words = tokens(name)
        for word in words:
            split = split_of_folder(word)
            if split:
                rest = " ".join(other for other in words if other not in (word, *FILLERS))
                splits_of.setdefault(rest, {})[name] = split
                break
    sets = [splits for splits in splits_of.values() if "train" in splits.values() and len(set(splits.values())) > 1]
    if len(sets) > 1:
        first, second = (next(iter(splits)) for splits in sets[:2])
        raise DataError(
            f"the folders {first} and {second} are named like a split and something else at once",
            "put class folders into folders of splits, such as train/cat; or give one data set alone",
        )
    return sets[0] if sets else {}


def _raise_if_empty(folders: Sequence[Folder], kind: str = "class") -> None:
    if folders:
        raise DataError(
            f"the {kind} folder {folders[0].path} has no images" + and_more(len(folders)),
            "fill it or remove it; " + ("a class" if kind == "class" else "a split") + " without images serves nothing",
        )


# --- classes


def _is_a_class(base: Folder, split_folders: dict[str, str], layout: Layout) -> bool:
    """Whether the one folder called train is a class: it lies among vehicles, and they all hold images only."""
    others = [name for name in base.filled if name not in split_folders and not is_unlabelled(name)]
    flat = not any(folder.folders for folder in base.folders.values())
    among_vehicles = any(VEHICLES & set(tokens(name)) for name in others)
    if [name.lower() for name in split_folders] != ["train"] or not among_vehicles or not flat:
        return False
    layout.notes.append(f"{next(iter(split_folders))} is taken for a class, like {others[0]} beside it")
    return True


def _read_classes(base: Folder, layout: Layout) -> None:
    """One class a folder."""
    classes = {name: folder for name, folder in base.filled.items() if not is_unlabelled(name)}
    _raise_if_empty([] if not classes else base.empty)
    _raise_unless_classes(classes)
    for name, folder in classes.items():
        for i in folder.below():
            layout.labels[i] = None if len(classes) == 1 and is_generic(name) else name
    num_unlabelled = layout.labels.count(None)
    if num_unlabelled and num_unlabelled < len(layout.labels):
        layout.notes.append(f"{counted(num_unlabelled, 'image')} beside the class folders: used without a label")


def _raise_unless_classes(classes: dict[str, Folder]) -> None:
    """Raises DataError for folders that are hardly classes: charts, `images`, data sets, a split deep inside."""
    if len(classes) < 2:
        return
    charts = [name for name in classes if name.casefold() in CHARTS]
    other_files = charts if len(charts) == 1 else [name for name in classes if name.casefold() in NO_CLASSES]
    if other_files and len(other_files) < len(classes):
        what = "charts" if charts == other_files else "other files"
        raise DataError(
            f"the folder {classes[other_files[0]].path} lies beside the class folders, and is named like one of {what}",
            "move it out of the data set; if it is a class, give it another name",
        )
    _raise_if_copies(classes)
    _raise_if_parts_of_a_set(classes)
    for name, folder in classes.items():
        other = next(each for each in classes if each != name)
        of_images = name.casefold() in IMAGES_ONLY and _have_others_beside(name, classes)
        if of_images or set(tokens(name)) in LABELLED:
            raise DataError(
                f"the folders {folder.path} and {classes[other].path} lie side by side, which are no two classes",
                f"give --dataset .../{folder.path}, or list the images in a table",
            )
        deep = _split_below(folder)
        if deep is not None:
            raise DataError(
                f"the folder {deep.path} is named like a split, and lies inside of the class folder {folder.path}",
                "put splits outside of the classes (train/cat), or directly into them (cat/train)",
            )
    _raise_if_data_sets(classes)


def _have_others_beside(name: str, classes: dict[str, Folder]) -> bool:
    """Whether a folder `images` lies beside one of masks or of as many images, which are of the same things."""
    count = len(list(classes[name].below()))
    others = [other for other in classes if other != name]
    as_many = any(len(list(classes[other].below())) == count for other in others)
    return any(map(kind_of_folder, others)) or (as_many and count > 1)


def _raise_if_copies(classes: dict[str, Folder]) -> None:
    """Raises DataError for a copy of a class beside it, and for a folder that holds folders named like those beside it:
    `dog` and `dog - Copy`, or `yes`, `no` and `data/yes`."""
    for name, folder in classes.items():
        original = COPY.fullmatch(name)
        if original is not None and original[1].strip() in classes:
            raise DataError(
                f"the folder {folder.path} is named like a copy of {classes[original[1].strip()].path}",
                "move it out of the data set; if it is a class, give it another name",
            )
        again = next((each for each in folder.filled if each in classes and each != name), None)
        if again is not None:
            raise DataError(
                f"the folder {folder.path}/{again} is named like {classes[again].path}: a copy, or another data set?",
                f"move {folder.path} out of the data set, or give it alone",
            )


def _raise_if_parts_of_a_set(classes: dict[str, Folder]) -> None:
    """Raises DataError for folders that differ in a number only, and are named like parts of one data set (`images_001`
    and `images_002`), and for names that mean several splits."""
    words = {" ".join(tokens(name)) for name in classes}
    first, second = sorted(classes)[:2]
    numbered = all(re.search(r"\d", name) for name in classes)
    if len(words) == 1 and numbered and PARTS_OF_SETS & set(next(iter(words)).split()):
        raise DataError(
            f"the folders {classes[first].path} and {classes[second].path} are named like parts of one data set, and "
            "no classes",
            "give a table that lists their images, with a column label, or put class folders into one folder",
        )
    split_of = {split_of_folder(word): name for name in classes for word in tokens(name) if split_of_folder(word)}
    if "train" in split_of and len(split_of) > 1:
        split, other = split_of.pop("train"), next(iter(split_of.values()))
        raise DataError(
            f"the folders {classes[split].path} and {classes[other].path} are named like splits and something else",
            "call them train, val and test, and move what is neither out of the data set",
        )


def _raise_if_data_sets(classes: dict[str, Folder]) -> None:
    """Raises DataError for folders with the same folders in them: data sets with the same classes, most likely."""
    words_below = {name: _words_below(folder) for name, folder in classes.items()}
    for words in OPPOSITES:
        both = [folder for name, folder in classes.items() if set(words) <= words_below[name]]
        if len(both) > 1 and (words != ("0", "1") or not any(map(tokens, classes))):
            raise DataError(
                f"{both[0].path} and {both[1].path} each hold folders {words[0]} and {words[1]}: which are the "
                "classes?",
                f"give one of them, --dataset .../{both[0].path}, or list the images in a table",
            )
    folders_of: dict[str, list[Folder]] = {}
    for folder in classes.values():
        for name in folder.filled if not folder.images else ():
            if set(tokens(name)) - PARTS_OF_CLASSES:  # not parts, and not numbers
                folders_of.setdefault(name, []).append(folder)
    shared = [name for name, folders in folders_of.items() if len(folders) > 1]
    if len(shared) > 1:
        first, second = folders_of[shared[0]][:2]
        raise DataError(
            f"{first.path} and {second.path} have the same folders, {shared[0]} and {shared[1]}: two data sets, or two "
            "classes?",
            f"give one of them, --dataset .../{first.path}; if they are classes, list the images in a table",
        )


def _words_below(folder: Folder) -> set[str]:
    """The words in the names of the folders in a folder, at any depth; a number is one."""
    return {word for path in _folders_below(folder) for word in _words_of(path.rpartition("/")[2])}


def _words_of(name: str) -> list[str]:
    return [name] if name.isdigit() else tokens(name)


def _split_below(folder: Folder) -> Folder | None:
    for name, inside in folder.filled.items():
        if split_of_folder(name) and same_name(name) in (
            *("train", "val", "test"),
            "training",
            "validation",
            "testing",
        ):
            return inside
        deeper = _split_below(inside)
        if deeper is not None:
            return deeper
    return None


# --- splits


def _read_splits(base: Folder, split_folders: dict[str, str], layout: Layout) -> None:
    """Folders of splits, with class folders in them or without."""
    split_folders = _clear_splits(split_folders, layout)
    _raise_if_empty([folder for folder in base.empty if folder.path.split("/")[-1] in split_folders], "split")
    inside = {name: _classes_of_split(base.folders[name], split) for name, split in split_folders.items()}
    with_classes = [name for name, folder in inside.items() if folder.folders]
    known = {label for name in with_classes for label in inside[name].folders}
    others = [name for name in base.filled if name not in split_folders]
    _raise_if_other_data(base, [*split_folders], others, known)
    layout.splits = ["train"] * len(layout.labels)  # what lies outside has no label and can serve pretraining only
    for name, split in split_folders.items():
        _raise_if_empty(inside[name].empty)
        _raise_unless_classes(inside[name].filled)
        for i in base.folders[name].below():
            layout.splits[i] = split
        for label, folder in inside[name].folders.items():
            for i in folder.below():
                layout.labels[i] = None if is_unlabelled(label) else label
    num_outside = sum(len(list(base.folders[name].below())) for name in others) + len(base.images)
    num_unlabelled = sum(
        label is None and split == "train" for label, split in zip(layout.labels, layout.splits, strict=True)
    )
    if with_classes and num_unlabelled:
        where = f" ({', '.join(base.folders[name].path for name in others[:3])})" if others and num_outside else ""
        layout.notes.append(f"{counted(num_unlabelled, 'image')} beside the class folders{where}: used without a label")


def _clear_splits(split_folders: dict[str, str], layout: Layout) -> dict[str, str]:
    """The split of each folder, `eval` made clear. Raises DataError if two folders are named like one split."""
    unclear = [name for name, split in split_folders.items() if split == "eval"]
    if unclear and "test" in split_folders.values():
        test = next(name for name, split in split_folders.items() if split == "test")
        raise DataError(
            f"the folders {test} and {unclear[0]} both look like the test images",
            f"rename {unclear[0]} to val if it is for validation, or move it out",
        )
    if unclear:
        layout.notes.append(f"{unclear[0]} is taken for the test images: name it val if it is for validation")
    clear = {name: "test" if split == "eval" else split for name, split in split_folders.items()}
    named: dict[str, str] = {}
    for name, split in clear.items():
        other = named.setdefault(split, name)
        if tokens(other) != tokens(name) or (other != name and not any(each.isdigit() for each in name + other)):
            raise DataError(
                f"the folders {other} and {name} are both named like the split {split}",
                "give one of them another name, or move it out of the data set",
            )
    return clear


def _classes_of_split(folder: Folder, split: str) -> Folder:
    """The folder that holds the classes of a split: `train`, or `train/images`, or `train/train`."""
    while len(folder.folders) == 1 and not folder.images:
        (name,) = folder.folders
        again = same_name(name) == same_name(folder.path.rpartition("/")[2])  # seg_train/seg_train
        if not again and not is_generic(name) and split_of_folder(name) not in (split, "eval"):
            break
        folder = folder.folders[name]
    among_vehicles = any(VEHICLES & set(tokens(name)) for name in folder.filled)
    for name in folder.filled:
        if split_of_folder(name) and not (among_vehicles and name.casefold() == "train"):
            raise DataError(
                f"the folder {folder.path}/{name} is named like a split, and lies inside of one",
                "give --dataset a folder with train, val and test directly in it; a class of that name needs another",
            )
    return folder


def _raise_if_other_data(base: Folder, split_folders: list[str], others: list[str], known: set[str]) -> None:
    """Raises DataError for folders beside those of splits that may be classes, or data sets of their own."""
    for name in others:
        folder = base.folders[name]
        if is_unlabelled(name) and not known & set(folder.filled):
            continue
        deep = {part for path in _folders_below(folder) for part in path[len(folder.path) :].split("/") if part}
        if not known or name in known or known & deep or any(map(split_of_folder, [*deep, *tokens(name)])):
            raise DataError(
                f"the folder {folder.path} lies beside {' and '.join(sorted(split_folders)[:2])}: is it a class, a "
                "split or another data set?",
                "put class folders into train, val and test, and other images into a folder unlabeled; a class that is "
                "named like a split needs another name",
            )


def _folders_below(folder: Folder) -> Iterator[str]:
    for inside in folder.folders.values():
        yield inside.path
        yield from _folders_below(inside)


def _read_splits_of_classes(base: Folder, layout: Layout) -> None:
    """Class folders with folders of splits in them."""
    classes = {name: folder for name, folder in base.filled.items() if not is_unlabelled(name)}
    _raise_if_empty(base.empty)
    layout.splits = ["train"] * len(layout.labels)
    for name, folder in classes.items():
        inside = folder.filled
        splits = {each: split_of_folder(each) for each in inside}
        if folder.images or not all(splits.values()):
            where = next((base.folders[other].path for other in classes if other != name), folder.path)
            raise DataError(
                f"some folders of {where} and {folder.path} are named like splits, and others are not",
                "put the same folders, such as train and test, into every class folder",
            )
        if any(each.filled for each in inside.values()):
            raise DataError(
                f"{folder.path} has splits and, in them, folders of its own: {counted(len(classes), 'data set')}?",
                f"give one of them, --dataset .../{folder.path}",
            )
        _raise_if_empty(folder.empty, "split")
        for each, split in _clear_splits(splits, layout).items():
            for i in inside[each].below():
                layout.labels[i], layout.splits[i] = name, split
    layout.notes[:] = dict.fromkeys(layout.notes)
    num_unlabelled = layout.labels.count(None)
    if num_unlabelled:
        layout.notes.append(f"{counted(num_unlabelled, 'image')} beside the class folders: used without a label")
