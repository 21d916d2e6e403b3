"""Volumes: one source each, and what each kind of source needs."""

from __future__ import annotations

import re

from jobyard.files.rules.checks import Fields, Number, Text, Texts, one_source, words
from jobyard.files.rules.environment import field_of_file, resource_of_container
from jobyard.files.rules.forms import ABSOLUTE, BELOW, FILE_BELOW, LABEL, NO_WAY_UP, SUBDOMAIN, is_subdomain
from jobyard.files.rules.part import Part
from jobyard.schema.values import quantity

_NEEDED = Text(required=True)
_MODE = Number(high=0o777)
_LUN = Number(high=255)
_IQN = re.compile(r"iqn\.[0-9]{4}-[0-9]{2}\.([A-Za-z0-9\-.]+)(:[^,;*&$|\s]+)$")
_EUI, _NAA = re.compile(r"eui.[A-Za-z0-9]{16}"), re.compile(r"naa.[A-Za-z0-9]{32}")

FIELDS: Fields = {
    "Volume": {"name": Text(form=LABEL, required=True)},
    "HostPathVolumeSource": {
        "path": Text(form=NO_WAY_UP, required=True),
        "type": words("Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket", "CharDevice", "BlockDevice"),
    },
    "GitRepoVolumeSource": {"repository": _NEEDED, "directory": Text(form=BELOW)},
    "GCEPersistentDiskVolumeSource": {"pdName": _NEEDED, "partition": _LUN},
    "AWSElasticBlockStoreVolumeSource": {"volumeID": _NEEDED, "partition": _LUN},
    "SecretVolumeSource": {"secretName": _NEEDED, "defaultMode": _MODE},
    "ConfigMapVolumeSource": {"name": _NEEDED, "defaultMode": _MODE},
    "KeyToPath": {"key": _NEEDED, "path": Text(form=FILE_BELOW, required=True), "mode": _MODE},
    "PersistentVolumeClaimVolumeSource": {"claimName": _NEEDED},
    "NFSVolumeSource": {"server": _NEEDED, "path": Text(form=ABSOLUTE, required=True)},
    "ISCSIVolumeSource": {"targetPortal": _NEEDED, "iqn": _NEEDED, "lun": _LUN},
    "GlusterfsVolumeSource": {"endpoints": _NEEDED, "path": _NEEDED},
    "RBDVolumeSource": {"monitors": Texts(required=True), "image": _NEEDED},
    "CephFSVolumeSource": {"monitors": Texts(required=True)},
    "CinderVolumeSource": {"volumeID": _NEEDED},
    "QuobyteVolumeSource": {"volume": _NEEDED, "registry": _NEEDED},
    "FlexVolumeSource": {"driver": _NEEDED},
    "AzureFileVolumeSource": {"secretName": _NEEDED, "shareName": _NEEDED},
    "AzureDiskVolumeSource": {
        "diskName": _NEEDED,
        "diskURI": _NEEDED,
        "cachingMode": words("None", "ReadOnly", "ReadWrite", even_empty=True),
        "kind": words("Shared", "Dedicated", "Managed", even_empty=True),
    },
    "VsphereVirtualDiskVolumeSource": {"volumePath": _NEEDED},
    "PhotonPersistentDiskVolumeSource": {"pdID": _NEEDED},
    "PortworxVolumeSource": {"volumeID": _NEEDED},
    "ScaleIOVolumeSource": {"gateway": _NEEDED, "system": _NEEDED, "volumeName": _NEEDED},
    "StorageOSVolumeSource": {"volumeName": Text(form=LABEL, required=True), "volumeNamespace": Text(form=LABEL)},
    "DownwardAPIVolumeSource": {"defaultMode": _MODE},
    "DownwardAPIVolumeFile": {"path": Text(form=FILE_BELOW, required=True), "mode": _MODE},
    "ProjectedVolumeSource": {"defaultMode": _MODE},
    "SecretProjection": {"name": _NEEDED},
    "ConfigMapProjection": {"name": _NEEDED},
    "ServiceAccountTokenProjection": {
        "path": Text(form=FILE_BELOW, required=True),
        "expirationSeconds": Number(low=600, high=2**32),
    },
    "ImageVolumeSource": {"pullPolicy": words("Always", "IfNotPresent", "Never")},
    "PersistentVolumeClaimSpec": {
        "storageClassName": Text(form=SUBDOMAIN),
        "volumeAttributesClassName": Text(form=SUBDOMAIN),
        "volumeMode": words("Block", "Filesystem", even_empty=True),
    },
    "TypedObjectReference": {"namespace": Text(form=LABEL), "name": _NEEDED, "kind": _NEEDED},
    "TypedLocalObjectReference": {"name": _NEEDED, "kind": _NEEDED},
}

SOURCES = (
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
)


def sources(pod: Part) -> dict[str, str] | None:
    """The source of each volume, by its name; None when a name can't be judged. A volume without a source is an emptyDir."""
    found: dict[str, str] = {}
    for volume in pod.parts("volumes"):
        name = volume.text("name")
        if name and name in found:
            volume.twice(("name",), name)
        found["" if name is None else name] = one_source(volume, SOURCES, required=False) or "emptyDir"
    unknown = any(volume.text("name") is None for volume in pod.parts("volumes")) or isinstance(pod.value.get("volumes"), str)
    return None if unknown else found


def _empty_dir(source: Part) -> None:
    limit = quantity(source.value.get("sizeLimit"))
    if limit is not None and limit < 0:
        source.error(("sizeLimit",), f"{source.spell('sizeLimit')} is below 0", "0 or more")


def _volume(volume: Part) -> None:
    name, iscsi = volume.text("name"), volume.part("iscsi")
    portal = iscsi.text("targetPortal") if iscsi else None
    if iscsi and iscsi.has("initiatorName") and name and portal is not None and len(f"{name}:{portal}") > 64:
        volume.error(("name",), "a name that is too long for iscsi.initiatorName", "at most 64 characters together with targetPortal")


def _iscsi(source: Part) -> None:
    if (source.is_true("chapAuthDiscovery") or source.is_true("chapAuthSession")) and not source.has("secretRef"):
        source.missing("secretRef", remedy="CHAP needs it")
    for key in ("iqn", "initiatorName"):
        text = source.text(key)
        if text is None or (not text and not (key == "initiatorName" and source.has(key))):
            continue
        start = text[:3]
        if start == "iqn":
            fits = _IQN.search(text) is not None
        else:
            fits = (_EUI if start == "eui" else _NAA).fullmatch(text) is not None if start in ("eui", "naa") else False
        if not fits:
            source.wrong((key,), text, "a name such as iqn.2001-04.com.example:storage, eui.… or naa.…")


def _fc(source: Part) -> None:
    targets, ids = source.list("targetWWNs"), source.list("wwids")
    if bool(targets) == bool(ids):
        source.error((), f"{source.spell()} with {'both' if targets else 'neither'} of targetWWNs and wwids", "one of the two")
    if targets:
        lun = source.number("lun")
        if not source.has("lun"):
            source.missing("lun")
        elif lun is not None and not 0 <= lun <= 255:
            source.error(("lun",), f"{source.spell('lun')} is {lun}", "0 to 255")


def _flocker(source: Part) -> None:
    name, uuid = source.text("datasetName"), source.text("datasetUUID")
    if name is not None and uuid is not None and bool(name) == bool(uuid):
        source.error((), f"{source.spell()} with {'both' if name else 'neither'} of datasetName and datasetUUID", "one of the two")
    if name and "/" in name:
        source.wrong(("datasetName",), name, "a name without /")


def _quobyte(source: Part) -> None:
    registry, tenant = source.text("registry"), source.text("tenant")
    if registry and tenant is not None and len(tenant) >= 65:
        source.wrong(("tenant",), tenant, "at most 64 characters")
    elif registry and not all(_is_host_port(each) for each in registry.split(",")):
        source.wrong(("registry",), registry, "host:port, more of them parted by commas")


def _is_host_port(text: str) -> bool:
    if text.startswith("["):
        return re.fullmatch(r"\[[^\[\]]*\]:[^:\[\]]*", text) is not None
    return text.count(":") == 1 and "[" not in text and "]" not in text


def _flex(source: Part) -> None:
    for key in source.mapping("options"):
        domain = f".{key.split('/', 1)[0].lower()}"
        if domain.endswith((".kubernetes.io", ".k8s.io")):
            source.error(("options", key), f'option "{key}" in a domain of Kubernetes', "another domain", key=True)


def _azure_disk(source: Part) -> None:
    uri, kind = source.text("diskURI"), source.text("kind")
    if not uri or kind is None:
        return
    start = "/subscriptions/" if kind == "Managed" else "https://"
    if not uri.startswith(start):
        source.wrong(("diskURI",), uri, f"{start}… for a disk of kind {kind or 'Shared'}")


def _named_secret(source: Part) -> None:
    secret = source.part("secretRef")
    if secret and secret.text("name") == "":
        secret.missing("name")


def _csi(source: Part) -> None:
    driver = source.text("driver")
    if driver == "":
        source.missing("driver")
    elif driver and (len(driver) > 63 or not is_subdomain(driver.lower())):
        source.wrong(("driver",), driver, "a domain of at most 63 characters")
    secret = source.part("nodePublishSecretRef")
    if secret and secret.text("name") == "":
        secret.missing("name")
    elif secret and (name := secret.text("name")) and not is_subdomain(name):
        secret.wrong(("name",), name, SUBDOMAIN.expected)


def _file(file: Part) -> None:
    one_source(file, ("fieldRef", "resourceFieldRef"))
    if field := file.part("fieldRef"):
        field_of_file(field)
    elif resource := file.part("resourceFieldRef"):
        resource_of_container(resource)
        if resource.text("containerName") == "":
            resource.missing("containerName")


def _projected(volume: Part) -> None:
    paths: set[str] = set()
    for source in volume.parts("sources"):
        kinds = [kind for kind in ("secret", "configMap", "downwardAPI", "serviceAccountToken") if source.has(kind)]
        for kind in kinds[1:]:
            source.forbidden(kind, f"together with {kinds[0]}", "keep one of the two")
        for kind in ("secret", "configMap", "downwardAPI"):
            inside = source.part(kind)
            for file in inside.parts("items") if inside else ():
                path = file.text("path")
                if path and path in paths:
                    file.twice(("path",), path)
                paths.add(path or "")


def _claim(spec: Part) -> None:
    modes = dict(spec.texts("accessModes"))
    if not spec.list("accessModes"):
        spec.missing("accessModes")
    known = ("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod")
    for index, mode in modes.items():
        if mode not in known:
            spec.wrong(("accessModes", index), mode, ", ".join(known))
    if "ReadWriteOncePod" in modes.values() and set(modes.values()) & set(known[:3]):
        spec.error(("accessModes",), "ReadWriteOncePod together with other access modes", "it on its own")
    resources = spec.part("resources")
    requests = resources.mapping("requests") if resources else {}
    storage = quantity(0 if requests.get("storage", 0) is None else requests.get("storage", 0))
    if "storage" not in requests:
        spec.missing("resources", "requests", "storage")
    elif storage is not None and storage <= 0:
        spec.error(("resources", "requests", "storage"), "storage of 0", "more")
    _data_source(spec)


def _data_source(spec: Part) -> None:
    source, reference = spec.part("dataSource"), spec.part("dataSourceRef")
    for each in (source, reference):
        group, kind = (each.text("apiGroup"), each.text("kind")) if each else (None, None)
        if each and group == "" and kind is not None and kind != "PersistentVolumeClaim":
            each.wrong(("kind",), kind, "PersistentVolumeClaim, or another one with its apiGroup")
        elif each and group and not is_subdomain(group):
            each.wrong(("apiGroup",), group, SUBDOMAIN.expected)
    if source and reference:
        if reference.text("namespace"):
            spec.forbidden("dataSource", "together with a dataSourceRef with a namespace")
        elif any(source.value.get(key) != reference.value.get(key) for key in ("apiGroup", "kind", "name")):
            spec.error(("dataSource",), "a dataSource that is not its dataSourceRef", "the same in both", "remove one of the two")


def _ephemeral(source: Part) -> None:
    template = source.part("volumeClaimTemplate")
    if not source.has("volumeClaimTemplate"):
        source.missing("volumeClaimTemplate")
    elif template and not template.has("spec"):
        _claim(template.below("spec", {}))


RULES = {
    "Volume": _volume,
    "EmptyDirVolumeSource": _empty_dir,
    "ISCSIVolumeSource": _iscsi,
    "FCVolumeSource": _fc,
    "FlockerVolumeSource": _flocker,
    "QuobyteVolumeSource": _quobyte,
    "FlexVolumeSource": _flex,
    "AzureDiskVolumeSource": _azure_disk,
    "CinderVolumeSource": _named_secret,
    "StorageOSVolumeSource": _named_secret,
    "CSIVolumeSource": _csi,
    "DownwardAPIVolumeFile": _file,
    "ProjectedVolumeSource": _projected,
    "PersistentVolumeClaimSpec": _claim,
    "EphemeralVolumeSource": _ephemeral,
}
