-- The actions that are possible now.
local actions = { reconcile = { ["displayName"] = "Look now" } }
if obj.kind == "Channel" then
  local status = obj.status or {}
  local failed = false
  for _, condition in ipairs(status.conditions or {}) do
    failed = failed or (condition.type == "Ready" and condition.reason == "ProvisioningFailed")
  end
  actions["test"] = { ["displayName"] = "Test the connectivity", ["disabled"] = status.channelId == nil }
  actions["retry"] = { ["displayName"] = "Retry the provisioning", ["disabled"] = not failed }
end
return actions
