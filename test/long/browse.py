"""
For chromium.sh: opens pages in headless Chromium without a network, at two widths. One line for each finding, `NAME WIDTH what: value`.

    browse.py CHROMIUM OUT PAGE..       screenshots go to OUT/NAME_WIDTH.png; CHROMIUM: a program, or "" for Playwright's own
"""
import os
import sys

from playwright.sync_api import sync_playwright


def hover(page, plot, x):
    """The pointer over a plot, at the share x of its width; its box."""
    plot.evaluate("element => element.scrollIntoView({block: 'center'})")
    box = plot.bounding_box()
    page.mouse.move(box["x"] + x * box["width"], box["y"] + 0.5 * box["height"])
    return box


def visit(browser, path, width, out, script=True):
    """What one page does: messages, requests, curves, what hovering and toggling show."""
    name = os.path.splitext(os.path.basename(path))[0]
    context = browser.new_context(viewport={"width": width, "height": 900}, offline=True, java_script_enabled=script)
    page = context.new_page()
    messages, requests = [], []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("dialog", lambda dialog: (messages.append("dialog " + dialog.message), dialog.dismiss()))
    page.on("request", lambda request: requests.append(request.url))
    page.goto("file://" + os.path.abspath(path))

    def say(what, value):
        print("%s %s %s: %s" % (name, width if script else "no_script", what, value))

    plots = page.locator(".plot:visible")
    say("plots", plots.count())
    say("lines", page.locator(".plot:visible path.line, .plot:visible path.dot").count())
    first = plots.first
    box = hover(page, first, 0.99)
    say("tall", box["height"] > 100 and box["width"] > 0.6 * width)
    tip = page.locator(".tip")
    say("tip", " ".join(tip.inner_text().split()) if tip.count() and tip.is_visible() else "none")
    if script:
        edges = tip.bounding_box() or {"x": -1, "width": 0}
        say("tip inside", edges["x"] >= 0 and edges["x"] + edges["width"] <= width)
        page.screenshot(path=os.path.join(out, "%s_%d_pointer.png" % (name, width)))
        page.screenshot(path=os.path.join(out, "%s_%d.png" % (name, width)), full_page=True)
        say("fits", page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))
        page.mouse.move(0, 0)
        first.focus()
        page.keyboard.press("End")
        page.keyboard.press("ArrowLeft")
        say("keyboard", tip.is_visible())
        page.keyboard.press("Escape")
        say("escape", not tip.is_visible())
    page.locator("#over-time").check()
    say("over time", page.locator(".plot.by-time:visible").count() == page.locator(".plot.by-time").count() > 0 and
        page.locator(".plot.by-tokens:visible").count() == 0)
    toggle = page.locator("#toggle0")
    if toggle.count():
        before = page.locator(".plot:visible .g0 path.line").first.is_visible()
        toggle.uncheck()
        say("toggle", before and not page.locator(".plot:visible .g0 path.line").first.is_visible())
        page.locator("#over-tokens").check()  # over time the means end before the slowest run does
        hover(page, plots.first, 0.97)
        if script:
            say("tip without it", " ".join(tip.inner_text().split()) if tip.is_visible() else "none")
    say("messages", messages)
    say("requests", len(requests))
    context.close()


def main():
    chromium, out, *pages = sys.argv[1:]
    with sync_playwright() as playwright:
        options = {"executable_path": chromium} if chromium else {}
        browser = playwright.chromium.launch(args=["--no-sandbox"], **options)
        for path in pages:
            for width in (1280, 400):
                visit(browser, path, width, out)
            visit(browser, path, 1280, out, script=False)
        browser.close()


if __name__ == "__main__":
    main()
