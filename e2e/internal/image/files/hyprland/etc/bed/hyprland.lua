-- Nothing moves, nothing is drawn that need not be: every pixel costs time under emulation.
hl.monitor({ output = "", mode = "800x600", position = "auto", scale = "1" })
hl.config({
    animations = { enabled = false },
    decoration = { blur = { enabled = false }, shadow = { enabled = false } },
    misc = { disable_hyprland_logo = true, disable_splash_rendering = true },
    ecosystem = { no_update_news = true, no_donation_nag = true },
})
