"""A phantom's HU and tumor mask on any grid."""

from __future__ import annotations

import torch
from torch import Tensor

from clmsda.geometry import Grid
from clmsda.phantoms.anatomy import Fields
from clmsda.phantoms.phantom import Phantom
from clmsda.phantoms.shapes import blend, coverage
from clmsda.phantoms.space import Space
from clmsda.phantoms.textures import texture
from clmsda.phantoms.tubes import tube_coverage, tube_distance


@torch.no_grad()
def render(phantom: Phantom, grid: Grid, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """HU and mask at the voxel centers of `grid`, without the scanner's blur and noise.

    Edges are smeared over about one voxel. Returns float32 HU and the bool mask, (slices, rows, columns) both.
    """
    space = Space.of_grid(grid, device)
    hu = space.full(-1000.0)
    mask = torch.zeros(space.shape, dtype=torch.bool, device=space.device)
    phantom.wall.paint_table(hu, space)
    body = space.part(*phantom.wall.bounds(space))
    if body:
        index, space = body
        _paint(phantom, hu[index], mask[index], space)
    return hu, mask


def _paint(phantom: Phantom, hu: Tensor, mask: Tensor, space: Space) -> None:
    """The body: in the order in which things cover each other."""
    fields = phantom.anatomy.fields(space)
    if float(fields.lung.amax()) > -space.width_mm:
        _paint_outside(phantom, hu, space, fields)
    lungs = [(hu[index], part, fields.at(index)) for index, part in space.inside(fields.lung)]
    for lung in lungs:
        phantom.lungs.paint_tissue(*lung)
    phantom.findings.paint_opacities(hu, space, fields)
    for lung in lungs:
        phantom.lungs.paint_trees(*lung)
    phantom.findings.paint_nodules(hu, space, fields)
    _paint_tumor(phantom, hu, mask, space, fields)
    phantom.findings.paint_metal(hu, space)


def _paint_outside(phantom: Phantom, hu: Tensor, space: Space, fields: Fields) -> None:
    """All but the lungs: wall, skeleton, abdomen, mediastinum."""
    for index, piece in space.pieces():
        phantom.wall.paint(hu[index], piece, fields.at(index), phantom.wall.skin(piece))
    phantom.wall.paint_limb_bones(hu, space)
    phantom.abdomen.paint(hu, space, fields)
    _paint_mediastinum(phantom, hu, space, fields)
    phantom.skeleton.paint(hu, space, phantom.anatomy, fields)


def _paint_mediastinum(phantom: Phantom, hu: Tensor, space: Space, fields: Fields) -> None:
    parts, tissues, width = phantom.anatomy.mediastinum, phantom.tissues, space.width_mm
    above = torch.maximum(torch.maximum(fields.mediastinum, fields.cage), fields.diaphragm)
    for index, sub in space.inside(above):
        grain = texture(sub, 10.0, tissues.offset)
        fat = tissues.fat_hu + 12 * grain + tissues.stranding_hu * (grain - 0.6).clamp_(0, 1)
        beside_spine = coverage(parts.spine_y(sub.z) + 4 - sub.y, 6.0)  # muscles and joints, no fat
        blend(hu[index], coverage(above[index], width), fat + (phantom.wall.muscle_hu - fat) * beside_spine)
    for shape in parts.heart:
        found = space.sub(*shape.bounds(2.0))
        if found:
            index, sub = found
            distance = torch.maximum(shape.distance(sub), fields.diaphragm[index] - 3)
            blend(hu[index], coverage(distance, width), tissues.muscle_hu)
    for shape in parts.chambers:
        found = space.sub(*shape.bounds(2.0))
        if found:
            index, sub = found
            distance = torch.maximum(shape.distance(sub), fields.diaphragm[index])
            blend(hu[index], coverage(distance, width + 2), tissues.blood_hu)
    phantom.findings.paint_nodes(hu, space)
    _paint_tubes(phantom, hu, space, fields)


def _paint_tubes(phantom: Phantom, hu: Tensor, space: Space, fields: Fields) -> None:
    """Esophagus, great vessels, trachea and main bronchi."""
    parts, tissues, width = phantom.anatomy.mediastinum, phantom.tissues, space.width_mm
    esophagus = parts.great.esophagus
    distances = (tube_distance(space, esophagus, width), *fields.tubes)
    values = (tissues.muscle_hu - 12, tissues.vein_hu, tissues.blood_hu, tissues.aorta_hu, 30.0)
    for tubes, distance, value in zip((esophagus, *parts.great.parts), distances, values, strict=True):
        if distance is None:
            continue
        index = tubes.near(space, width)
        blend(hu[index], coverage(distance[index], width), value)
        if tubes is parts.great.airways:
            blend(hu[index], coverage(distance[index] + parts.airway_wall_mm, width), -1000.0)


def _paint_tumor(phantom: Phantom, hu: Tensor, mask: Tensor, space: Space, fields: Fields) -> None:
    tumor = phantom.tumor
    strands = tube_coverage(space, tumor.strands)
    if strands is not None:
        blend(hu, strands.mul_(coverage(fields.lung, space.width_mm)), tumor.strand_hu)
    found = space.sub(*tumor.bounds(2 * tumor.halo_mm + tumor.softness_mm))
    if not found:
        return
    index, sub = found
    near = fields.at(index)
    distance = tumor.distance(sub, near)
    mask[index] = tumor.outlined.distance(sub, near) < 0
    part = hu[index]
    if tumor.halo_mm:
        halo = (distance / -tumor.halo_mm).exp_().clamp_(max=1) * coverage(near.lung, sub.width_mm)
        part.add_(halo * (tumor.halo_hu * (part < -500)))
    alpha = coverage(distance, sub.width_mm + tumor.softness_mm)
    blend(part, alpha, tumor.interior(sub, distance))
    vessels = tube_coverage(space, phantom.lungs.vessels) if tumor.kind != "solid" else None
    if vessels is not None:
        blend(part, vessels[index] * coverage(near.lung, sub.width_mm), phantom.lungs.vessel_hu)
    if tumor.bronchogram:
        lumen = tube_coverage(sub, phantom.lungs.bronchi.grown(0.8, -0.2))
        if lumen is not None:
            blend(part, lumen.mul_(tumor.bronchogram), -960.0)
