from django.urls import path

from apps.reviews.views import campaigns, mine

app_name = "reviews"

urlpatterns = [
    path("", mine.mine, name="mine"),
    path("<int:campaign_id>/mine/", mine.review, name="review"),
    path("<int:campaign_id>/mine/sign/", mine.sign, name="sign"),
    path("<int:campaign_id>/mine/many/", mine.decide_many, name="decide_many"),
    path("<int:campaign_id>/mine/undo/", mine.undo, name="undo"),
    path("<int:campaign_id>/mine/pass/", mine.pass_on, name="pass_on"),
    path("<int:campaign_id>/mine/<int:pk>/", mine.review, name="item"),
    path("<int:campaign_id>/mine/<int:pk>/decide/", mine.decide, name="decide"),
    path("campaigns/", campaigns.campaigns, name="campaigns"),
    path("campaigns/new/", campaigns.new, name="new"),
    path("campaigns/<int:pk>/", campaigns.campaign, name="campaign"),
    path("campaigns/<int:pk>/items/", campaigns.items, name="items"),
    path("campaigns/<int:pk>/items/<int:item_id>/", campaigns.item, name="campaign_item"),
    path("campaigns/<int:pk>/launch/", campaigns.launch, name="launch"),
    path("campaigns/<int:pk>/discard/", campaigns.discard, name="discard"),
    path("campaigns/<int:pk>/remind/", campaigns.remind, name="remind"),
    path("campaigns/<int:pk>/reassign/", campaigns.reassign, name="reassign"),
    path("campaigns/<int:pk>/close/", campaigns.close, name="close"),
    path("of/<int:pk>/", campaigns.of_identity, name="of_identity"),
]
