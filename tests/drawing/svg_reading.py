"""Read drawings back: paths, texts and axes of an SVG (not a test)."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

SVG = "{http://www.w3.org/2000/svg}"


def points(d):
    """The corners of each line of a path with the commands M, L, l, h, v, H, V and z."""
    lines = []
    for letter, numbers in re.findall(r"([A-Za-z])([^A-Za-z]*)", d):
        steps = [float(n) for n in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", numbers)]
        if letter == "M":
            lines.append([np.array(steps)])
        elif letter in "lL":
            for step in np.array(steps).reshape(-1, 2):
                lines[-1].append(step if letter == "L" else lines[-1][-1] + step)
        elif letter in "hvHV":
            axis = "hv".index(letter.lower())
            end = lines[-1][-1].copy()
            end[axis] = steps[0] + (end[axis] if letter.islower() else 0)
            lines[-1].append(end)
    return [np.array(line) for line in lines]


def words(svg):
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter(f"{SVG}text")]


class Chart:
    """A chart as it was drawn, with the scale of its axis read off the numbers below it."""

    def __init__(self, svg):
        self.root = ElementTree.fromstring(svg)
        texts = [
            (float(n.get("x")), float(n.get("y")), n.get("text-anchor"), "".join(n.itertext()))
            for n in self.root.iter(f"{SVG}text")
        ]
        numbers = [
            (x, float(word.replace("−", "-").replace(",", "")))
            for x, y, anchor, word in texts
            if anchor == "middle" and re.fullmatch(r"[−\d.,]+", word)
        ]
        px, values = np.array(numbers).T
        assert len(values) >= 2, "an axis needs two numbers"
        slope, offset = np.polyfit(px, values, 1)
        self.value = lambda x: slope * np.asarray(x) + offset
        self.tolerance = 0.2 * abs(slope)  # coordinates are in tenths of a pixel
        assert self.value(px) == pytest.approx(values, abs=self.tolerance)

    def level_lines(self, colour):
        """Ends of the horizontal lines of a colour, as values, in their order."""
        lines = [
            self.value(line[:, 0])
            for node in self.root.iter(f"{SVG}path")
            if f"--{colour}," in node.get("stroke", "")
            for line in points(node.get("d"))
            if line[0, 1] == line[-1, 1]
        ]
        return np.array(lines)

    def boxes(self):
        """(left, right, fill) of each rectangle, as values, that is not in a legend."""
        legend = {"18"}
        return [
            (
                float(self.value(float(n.get("x")))),
                float(self.value(float(n.get("x")) + float(n.get("width")))),
                n.get("fill"),
            )
            for n in self.root.iter(f"{SVG}rect")
            if n.get("width") not in legend
        ]
