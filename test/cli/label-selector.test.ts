import { expect, test } from "vitest";
import { UsageError } from "../../cli/terminal/exit-codes.js";
import { parseLabelSelector } from "../../cli/objects/label-selector.js";

const WEB = { app: "web", tier: "front", "example.com/zone": "a" };

test.each([
  ["app=web", true],
  ["app==web", true],
  ["app=api", false],
  ["app!=api", true],
  ["app!=web", false],
  ["gone!=web", true],
  ["app", true],
  ["gone", false],
  ["!app", false],
  ["!gone", true],
  ["app in (api, web)", true],
  ["app in (api)", false],
  ["gone in (web)", false],
  ["app notin (api)", true],
  ["app notin (web,api)", false],
  ["gone notin (web)", true],
  ["app=web,tier=front", true],
  ["app=web,tier=back", false],
  ["app in (web,api),!gone,example.com/zone=a", true],
  ["toString", false],
])("%s", (text, matches) => {
  expect(parseLabelSelector(text)(WEB)).toBe(matches);
});

test.each(["", "app=web,", "app>1", "app in web", "app in (a b)", "=web", "app=we b"])("%j is refused", (text) => {
  expect(() => parseLabelSelector(text)).toThrow(UsageError);
});
