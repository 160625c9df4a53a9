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
    fields = phantom.anatomy.fields(space)
    hu = space.full(-1000.0)
    vessels = tube_coverage(space, phantom.lungs.vessels)
    if float(fields.lung.amax()) > -space.width_mm:
        _paint_outside(phantom, hu, space, fields)
    phantom.lungs.paint_tissue(hu, space, fields)
    phantom.findings.paint_opacities(hu, space, fields)
    phantom.lungs.paint_trees(hu, space, fields, vessels)
    phantom.findings.paint_nodules(hu, space, fields)
    mask = _paint_tumor(phantom, hu, space, fields, vessels)
    phantom.findings.paint_metal(hu, space)
    return hu, mask


def _paint_outside(phantom: Phantom, hu: Tensor, space: Space, fields: Fields) -> None:
    """All but the lungs: wall, skeleton, abdomen, mediastinum."""
    skin = phantom.wall.skin(space)
    phantom.wall.paint(hu, space, fields, skin)
    phantom.wall.paint_limb_bones(hu, space)
    phantom.abdomen.paint(hu, space, fields)
    _paint_mediastinum(phantom, hu, space, fields)
    phantom.skeleton.paint(hu, space, phantom.anatomy, fields)


def _paint_mediastinum(phantom: Phantom, hu: Tensor, space: Space, fields: Fields) -> None:
    parts, tissues, width = phantom.anatomy.mediastinum, phantom.tissues, space.width_mm
    inside = torch.maximum(fields.mediastinum, fields.cage)
    above = torch.maximum(inside, fields.diaphragm)
    grain = texture(space, 10.0, tissues.offset)
    fat = tissues.fat_hu + 12 * grain + tissues.stranding_hu * (grain - 0.6).clamp_(0, 1)
    beside_spine = coverage(parts.spine_y(space.z) + 4 - space.y, 6.0)  # muscles and joints, no fat
    blend(hu, coverage(above, width), fat + (phantom.wall.muscle_hu - fat) * beside_spine)
    for shape in parts.heart:
        found = space.sub(*shape.bounds(2.0))
        if found:
            index, sub = found
            distance = torch.maximum(shape.distance(sub), fields.at(index).diaphragm - 3)
            blend(hu[index], coverage(distance, width), tissues.muscle_hu)
    for shape in parts.chambers:
        found = space.sub(*shape.bounds(2.0))
        if found:
            index, sub = found
            distance = torch.maximum(shape.distance(sub), fields.at(index).diaphragm)
            blend(hu[index], coverage(distance, width + 2), tissues.blood_hu)
    phantom.findings.paint_nodes(hu, space)
    gullet = tube_distance(space, parts.great.esophagus, width)
    tubes = (gullet, *fields.tubes[:3])
    for found_tubes, value in zip(
        tubes, (tissues.muscle_hu - 12, tissues.vein_hu, tissues.blood_hu, tissues.aorta_hu), strict=True
    ):
        if found_tubes is not None:
            blend(hu, coverage(found_tubes, width), value)
    airway = fields.tubes[3]
    if airway is not None:
        blend(hu, coverage(airway, width), 30.0)
        blend(hu, coverage(airway + parts.airway_wall_mm, width), -1000.0)


def _paint_tumor(phantom: Phantom, hu: Tensor, space: Space, fields: Fields, vessels: Tensor | None) -> Tensor:
    tumor = phantom.tumor
    mask = torch.zeros(space.shape, dtype=torch.bool, device=space.device)
    strands = tube_coverage(space, tumor.strands)
    if strands is not None:
        blend(hu, strands.mul_(coverage(fields.lung, space.width_mm)), tumor.strand_hu)
    found = space.sub(*tumor.bounds(2 * tumor.halo_mm + tumor.softness_mm))
    if not found:
        return mask
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
    if vessels is not None and tumor.kind != "solid":
        blend(part, vessels[index] * coverage(near.lung, sub.width_mm), phantom.lungs.vessel_hu)
    if tumor.bronchogram:
        lumen = tube_coverage(sub, phantom.lungs.bronchi.grown(0.8, -0.2))
        if lumen is not None:
            blend(part, lumen.mul_(tumor.bronchogram), -960.0)
    return mask
